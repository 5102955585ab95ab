"""Shows the to-do service at work: real requests to a real server, on SQLite and then in memory, answers compared."""

import difflib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import httpx

CHECKOUT = Path(__file__).parents[2]
PATIENCE = 30.0

Json: TypeAlias = "dict[str, Json] | list[Json] | str | float | bool | None"


@dataclass(frozen=True, slots=True)
class Step:
    """One request, what it shows, and the status it must get."""

    shows: str
    status: int
    method: str
    path: str
    body: dict[str, Json] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; generated ids are told apart by order of creation, so that two stores can be compared."""

    status: int
    body: Json

    def __str__(self) -> str:
        match self.body:
            case None:
                return str(self.status)
            case {"items": list(items), **rest}:  # a page: one line for each item
                return "\n       ".join([f"{self.status} {_json(rest)}", *map(_json, items)])
            case body:
                return f"{self.status} {_json(body)}"


Send = Callable[[Step], Answer]
Tell = Callable[[Step, Answer], None]

STEPS = (
    Step(
        "Nothing is stored yet. The repository raises NotFoundError, and one handler turns that into a 404.",
        404,
        "GET",
        "/todos/milk",
    ),
    Step(
        "A Pydantic model goes in, the stored one comes back with its id. COMMIT comes first, then the answer.",
        201,
        "POST",
        "/todos",
        {"key": "milk", "value": "two litres", "priority": 2},
    ),
    Step("So whoever reads at once finds it.", 200, "GET", "/todos/milk"),
    Step(
        "The key is unique. Memory knows it too, from the same table; the error names the field and no other row.",
        409,
        "POST",
        "/todos",
        {"key": "milk", "value": "again"},
    ),
    Step(
        "The column holds 100 characters. SQLite would store more; the repository checks before it sends anything.",
        422,
        "POST",
        "/todos",
        {"key": "k" * 101, "value": "too long"},
    ),
    Step(
        "Three more, to have something to look for.", 201, "POST", "/todos", {"key": "Milk shake", "value": "vanilla"}
    ),
    Step("", 201, "POST", "/todos", {"key": "tax return", "value": "save 100% of the receipts", "priority": 5}),
    Step("", 201, "POST", "/todos", {"key": "soy milk", "value": "two packs", "priority": 2}),
    Step(
        "A query object is a Pydantic model: its fields are the filters. Strings match by case, on every backend.",
        200,
        "GET",
        "/todos?key_contains=milk",
    ),
    Step("Filters are combined.", 200, "GET", "/todos?key_contains=milk&value_contains=packs"),
    Step(
        "What a client types is text, never a pattern: % finds a percent sign.", 200, "GET", "/todos?value_contains=%25"
    ),
    Step("The client picks an order out of a closed list.", 200, "GET", "/todos?order_by=-key"),
    Step(
        "A page says whether there is more. Equal priorities are told apart by the id, so pages never overlap.",
        200,
        "GET",
        "/todos?order_by=-priority&limit=2",
    ),
    Step("The second page.", 200, "GET", "/todos?order_by=-priority&limit=2&offset=2"),
    Step("A filter nobody declared is refused instead of ignored.", 422, "GET", "/todos?id=1"),
    Step("A patch writes the fields that were sent, and no others.", 200, "PATCH", "/todos/milk", {"done": True}),
    Step("What is done?", 200, "GET", "/todos?done=true"),
    Step("What is still to do, most urgent first? That is the query's default order.", 200, "GET", "/todos?done=false"),
    Step("Delete one.", 204, "DELETE", "/todos/milk"),
    Step("It is gone, on every backend alike.", 404, "GET", "/todos/milk"),
)


def main() -> int:
    """Runs every step on both stores; 0 when every status was right and all the answers were equal."""
    with tempfile.TemporaryDirectory() as directory:
        on_sqlite = _tour(f"sqlite:///{Path(directory, 'todo.db').as_posix()}", Path(directory, "sqlite.log"), _explain)
        print("\n\nThe same requests again, with nothing changed but the URL of the store.")
        on_memory = _tour("memory://", Path(directory, "memory.log"), _list)
    return verdict(on_sqlite, on_memory)


def _tour(url: str, log: Path, tell: Tell) -> list[Answer]:
    with serving(url, log) as address, httpx.Client(base_url=address, trust_env=False, timeout=PATIENCE) as client:
        print(f"\n=== DATABASE_URL={url} python -m examples.todo\n=== listens on {address}\n")
        return walk(lambda step: _sent(client, step), tell)


def walk(send: Send, tell: Tell) -> list[Answer]:
    """Sends every step in order, tells of each with its answer, and gives the answers with ids made comparable."""
    ids: dict[int, int] = {}
    answers: list[Answer] = []
    for step in STEPS:
        answer = send(step)
        tell(step, answer)
        answers.append(Answer(answer.status, _renumbered(answer.body, ids)))
    return answers


def _explain(step: Step, answer: Answer) -> None:
    if step.shows:
        print(f"\n{step.shows}\n")
    _list(step, answer)


def _list(step: Step, answer: Answer) -> None:
    print(f"    {_line(step)}\n    -> {answer}")


def _json(body: object) -> str:
    return json.dumps(body, ensure_ascii=False)


def _line(step: Step) -> str:
    body = "" if step.body is None else f" {_short(_json(step.body))}"
    return f"{step.method} {step.path}{body}"


def _short(text: str) -> str:
    return re.sub(r"(\w)\1{20,}", lambda run: f"{run[1] * 3}... ({len(run[0])} times)", text)


def _sent(client: httpx.Client, step: Step) -> Answer:
    response = client.request(step.method, step.path, json=step.body)
    return Answer(response.status_code, response.json() if response.content else None)


def _renumbered(body: Json, ids: dict[int, int]) -> Json:
    if isinstance(body, list):
        return [_renumbered(item, ids) for item in body]
    if not isinstance(body, dict):
        return body
    numbered = {name: _renumbered(value, ids) for name, value in body.items()}
    # A store may leave gaps in its ids, but hands them out in order; so the n-th new id seen is the n-th created.
    if isinstance(number := body.get("id"), int):
        numbered["id"] = ids.setdefault(number, len(ids) + 1)
    return numbered


def verdict(on_sqlite: list[Answer], on_memory: list[Answer]) -> int:
    """Says whether all is as it should be, with a diff where it is not; 0 when it is."""
    wrong = [
        f"{_line(step)}: expected {step.status}, got {answer.status} on {name}"
        for name, answers in (("SQLite", on_sqlite), ("memory", on_memory))
        for step, answer in zip(STEPS, answers, strict=True)
        if answer.status != step.status
    ]
    differences = list(
        difflib.unified_diff(_report(on_sqlite), _report(on_memory), "SQLite", "memory", lineterm="", n=1)
    )
    print("", *wrong, *differences, sep="\n")
    if wrong or differences:
        print("The answers are NOT as they should be; see above.")
        return 1
    print(f"The {len(STEPS)} answers are equal on SQLite and in memory (ids compared by order of creation).")
    return 0


def _report(answers: list[Answer]) -> list[str]:
    return [f"{_line(step)} -> {answer}" for step, answer in zip(STEPS, answers, strict=True)]


@contextmanager
def serving(url: str, log: Path) -> Generator[str]:
    """The service over `url`, in a process of its own, as the address it answers on; ended on the way out."""
    with (
        log.open("w", encoding="utf-8") as output,
        subprocess.Popen(
            [sys.executable, "-m", "examples.todo"],
            cwd=CHECKOUT,
            env={**os.environ, "DATABASE_URL": url, "PORT": "0", "PYTHONIOENCODING": "utf-8"},
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as server,
    ):
        try:
            yield _address(server, log)
        finally:
            _end(server)


def _address(server: subprocess.Popen[Any], log: Path) -> str:
    """Where the server answers, once it does; a server that ends first, or takes too long, is an error with its log."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        printed = re.search(r"http://127\.0\.0\.1:\d+", log.read_text(encoding="utf-8"))
        if printed and _answers(printed[0]):
            return printed[0]
        time.sleep(0.05)
    raise RuntimeError(f"The server did not start:\n{log.read_text(encoding='utf-8')}")


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/openapi.json", trust_env=False).is_success
    except httpx.TransportError:
        return False


def _end(server: subprocess.Popen[Any]) -> None:
    server.terminate()
    try:
        server.wait(timeout=10)
    except subprocess.TimeoutExpired:
        server.kill()


if __name__ == "__main__":
    sys.exit(main())
