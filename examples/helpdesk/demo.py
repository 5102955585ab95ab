"""Shows an aggregate and a view: the same requests to the help desk on SQLite and in memory, answers compared."""

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx

from examples.helpdesk.app import Store, create_app
from examples.helpdesk.domain import Caller, Project, Tag, Team, User
from examples.helpdesk.storage import HelpDesk
from examples.helpdesk.tables import Base
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncDatabase

ME = Caller(tenant_id=1, user_id=1)

STEPS: tuple[tuple[str, str, str, dict[str, Any] | None], ...] = (
    (
        "A ticket and its tags are one aggregate: written together.",
        "POST",
        "/tickets",
        {"project_id": 1, "assignee_id": 2, "title": "Printer on fire", "tag_ids": [1, 2]},
    ),
    ("A comment refers to the ticket.", "POST", "/tickets/1/comments", {"body": "Fetch water."}),
    ("Changing its tags alone counts the version of the ticket.", "PATCH", "/tickets/1", {"tag_ids": [2]}),
    ("So who has read version 1 cannot overwrite it.", "PATCH", "/tickets/1", {"title": "Lost", "version": 1}),
    ("Follow it.", "PUT", "/tickets/1/star", None),
    ("A view nests what belongs to a ticket, in a fixed number of statements.", "GET", "/tickets?tag=hardware", None),
    ("One ticket, with its comments and their authors.", "GET", "/tickets/1", None),
    ("Summaries are views too.", "GET", "/projects/summary", None),
)


async def fill(db: Store) -> None:
    """Store what tickets refer to."""
    async with HelpDesk(db, context=ME) as desk:
        await desk.teams.add(Team(tenant_id=1, name="Support"))
        await desk.users.add_many(User(tenant_id=1, team_id=1, name=name) for name in ("Ada", "Bob"))
        await desk.projects.add(Project(tenant_id=1, team_id=1, name="Office"))
        await desk.tags.add_many(Tag(tenant_id=1, name=name) for name in ("urgent", "hardware"))


async def walk(db: Store) -> list[httpx.Response]:
    """Send every request and return the answers."""
    await fill(db)
    headers = {"x-tenant": str(ME.tenant_id), "x-user": str(ME.user_id)}
    transport = httpx.ASGITransport(app=create_app(db))
    async with httpx.AsyncClient(transport=transport, base_url="http://desk", headers=headers) as client:
        return [await client.request(method, path, json=body) for _, method, path, body in STEPS]


async def compare(url: str) -> tuple[list[httpx.Response], list[httpx.Response]]:
    """Return the answers on SQLite and in memory."""
    db = AsyncDatabase(url)
    async with db.engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    try:
        return await walk(db), await walk(InMemoryDatabase())
    finally:
        await db.dispose()


def without_times(body: Any) -> Any:
    """Return an answer's JSON without the moments of creation, which differ from run to run."""
    if isinstance(body, list):
        return [without_times(one) for one in body]
    if isinstance(body, dict):
        return {name: without_times(one) for name, one in body.items() if name != "created_at"}
    return body


def main() -> int:
    """Print each request with its answer; 0 if the answers of both stores are equal, and as they should be."""
    with tempfile.TemporaryDirectory() as directory:
        on_sqlite, in_memory = asyncio.run(compare(f"sqlite+aiosqlite:///{Path(directory, 'desk.db').as_posix()}"))
    for (shows, method, path, body), answer in zip(STEPS, on_sqlite, strict=True):
        print(f"\n{shows}\n\n    {method} {path}{'' if body is None else ' ' + json.dumps(body)}")
        shown = json.dumps(without_times(answer.json()), indent=2) if answer.content else ""
        print(f"    -> {answer.status_code} " + shown.replace("\n", "\n       "))
    both = [
        [(one.status_code, without_times(one.json()) if one.content else None) for one in answers]
        for answers in (on_sqlite, in_memory)
    ]
    right = both[0] == both[1] and [status for status, _ in both[0]] == [201, 201, 200, 409, 204, 200, 200, 200]
    print(f"\nThe {len(STEPS)} answers are equal on SQLite and in memory." if right else "\nThe answers are NOT right.")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
