"""Log records name the route and the unit, and hold no values of clients."""

import logging
from typing import Annotated

import pytest
import sqlalchemy as sa
from fastapi import APIRouter, FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import BaseRepository, BaseUnitOfWork, CursorPage, QueryObject
from sqlrepo.fastapi import Stream, filters, install, provide, provide_stream
from tests.clock import clock
from tests.web.domain import AsyncShop, Shop, Thing
from tests.web.server import client, serving

__all__ = ["clock"]


def warnings(caplog):
    return [record for record in caplog.records if record.name == "sqlrepo" and record.levelno == logging.WARNING]


def application(db, clock):
    app = FastAPI()
    router = APIRouter(prefix="/inner")
    ShopDep = Annotated[Shop, provide(Shop, db)]

    @app.get("/waits/{key}")
    def waits(key: str, shop: ShopDep) -> int:
        found = shop.things.count(key=key)
        clock.sleep(2)  # a server elsewhere, say
        return found

    @app.get("/commits/{key}")
    def commits(key: str, shop: ShopDep) -> int:
        found = shop.things.count(key=key)
        shop.commit()
        clock.sleep(2)
        return found + shop.things.count()

    @router.get("/by-hand/{key}")
    def by_hand(key: str) -> int:
        with Shop(db) as shop:
            found = shop.things.count(key=key)
            clock.sleep(2)
            return found + shop.things.count()

    @app.get("/streams/{key}")
    def streams(key: str, stream: Annotated[Stream[Shop], provide_stream(Shop, db)]) -> StreamingResponse:
        def lines(shop):
            yield f"{shop.things.count(key=key)}"
            clock.sleep(2)

        return StreamingResponse(stream(lines))

    app.include_router(router, prefix="/first")
    app.include_router(router, prefix="/second")
    install(app, db)
    return app


@pytest.fixture
def ask(sync_db, clock):
    app = application(sync_db, clock)
    app.mount("/mounted", application(sync_db, clock))
    with serving(app) as address, client(address) as made:
        yield made


@pytest.mark.parametrize(
    ("path", "route", "name"),
    [
        ("/waits/s3cret", "GET /waits/{key}", "waits"),
        ("/first/inner/by-hand/s3cret", "GET /first/inner/by-hand/{key}", "by_hand"),
        ("/second/inner/by-hand/s3cret", "GET /second/inner/by-hand/{key}", "by_hand"),
        ("/streams/s3cret", "GET /streams/{key}", "streams"),
        ("/mounted/waits/s3cret", "GET /mounted/waits/{key}", "waits"),
    ],
)
def test_a_connection_held_without_a_query_is_a_warning_with_the_route(ask, caplog, path, route, name):
    assert ask.get(path).status_code == 200
    [warning] = warnings(caplog)
    assert warning.route == f"{route}, application.<locals>.{name}"
    assert warning.route in warning.getMessage()
    assert "Shop" in warning.getMessage()
    assert "s3cret" not in warning.getMessage()


def test_an_ended_transaction_holds_no_connection(ask, caplog):
    assert ask.get("/commits/s3cret").status_code == 200
    assert warnings(caplog) == []


def test_an_async_unit_is_warned_about(async_db, clock, caplog):
    app = FastAPI()

    @app.get("/waits")
    async def waits(shop: Annotated[AsyncShop, provide(AsyncShop, async_db)]) -> int:
        found = await shop.things.count()
        clock.sleep(2)
        return found

    install(app, async_db)
    with serving(app) as address, client(address) as ask:
        assert ask.get("/waits").status_code == 200
    [warning] = warnings(caplog)
    assert warning.route.startswith("GET /waits, ")
    assert "AsyncShop" in warning.getMessage()


def test_begin_and_end_are_logged_with_the_route(sync_db, caplog):
    caplog.set_level(logging.DEBUG, "sqlrepo")
    app = FastAPI()

    @app.post("/things", status_code=201)
    def create(thing: Thing, shop: Annotated[Shop, provide(Shop, sync_db)]) -> Thing:
        return shop.things.add(thing)

    install(app, sync_db)
    with serving(app) as address, client(address) as ask:
        assert ask.post("/things", json={"key": "s3cret"}).status_code == 201
        assert ask.post("/things", json={"key": "s3cret"}).status_code == 409
    lines = [
        record.getMessage() for record in caplog.records if getattr(record, "route", "").startswith("POST /things")
    ]
    assert [any(word in line for line in lines) for word in ("began", "committed", "aborted", "rolled back")] == [
        True
    ] * 4
    assert not any("s3cret" in line for line in lines)


def test_records_outside_of_requests_have_no_route(sync_db, clock, caplog):
    install(FastAPI(), sync_db)
    with Shop(sync_db) as shop:
        shop.things.count()
        clock.sleep(2)
    [warning] = warnings(caplog)
    assert not hasattr(warning, "route")


SENT = "s3cret"  # in every value that a client sends below

REQUESTS = {
    "add": ("POST", "/things", {"json": {"key": SENT, "secret": SENT}}),
    "patch": ("PATCH", f"/things/{SENT}", {"json": {"secret": SENT}}),
    "filter": ("GET", f"/things?key_contains={SENT}", {}),
    "cursor": ("GET", "/things", {}),  # whose cursor is asked for first
    "path key": ("GET", f"/things/{SENT}", {}),
    "several": ("GET", f"/one?key_contains={SENT}", {}),
}


class Secrets(DeclarativeBase): ...


class SecretRow(Secrets):
    __tablename__ = "log_secret"
    key: Mapped[str] = mapped_column(sa.String(20), primary_key=True)
    secret: Mapped[str] = mapped_column(sa.String(50))


class Secret(BaseModel):
    key: str
    secret: str


class SecretQuery(QueryObject[Secret]):
    key_contains: str | None = None
    limit: int = 1


class SecretRepository(BaseRepository[Secret, str]):
    model = SecretRow


class Safe(BaseUnitOfWork):
    secrets: SecretRepository


@pytest.fixture
def safe(sync_db):
    """Two secrets, an application, and a list of errors that every further statement raises one of."""
    Secrets.metadata.create_all(sync_db.engine)
    with Safe(sync_db) as unit:
        unit.secrets.add_many([Secret(key=f"{SENT}{n}", secret=SENT) for n in ("", "2")])
    app, raising = FastAPI(), []
    SafeDep = Annotated[Safe, provide(Safe, sync_db)]
    Wanted = Annotated[SecretQuery, filters(SecretQuery)]

    @app.post("/things")
    def add(thing: Secret, unit: SafeDep) -> Secret:
        return unit.secrets.add(thing)

    @app.patch("/things/{key}")
    def patch(key: str, thing: dict[str, str], unit: SafeDep) -> Secret:
        return unit.secrets.patch(key, thing)

    @app.get("/things")
    def find(query: Wanted, unit: SafeDep, after: str | None = None) -> CursorPage[Secret]:
        return unit.secrets.scroll(query, after=after)

    @app.get("/things/{key}")
    def get(key: str, unit: SafeDep) -> Secret:
        return unit.secrets.get(key)

    @app.get("/one")
    def one(query: Wanted, unit: SafeDep) -> Secret:
        return unit.secrets.one(query)

    def execute(cursor, statement, parameters, context):
        if raising:
            raise getattr(sync_db.engine.dialect.dbapi, raising[0])(f"near {SENT}: {parameters}")

    install(app, sync_db)
    sa.event.listen(sync_db.engine, "do_execute", execute)
    yield app, raising
    Secrets.metadata.drop_all(sync_db.engine)


@pytest.mark.parametrize("kind", ["ProgrammingError", "InternalError", "DatabaseError", "IntegrityError", None])
@pytest.mark.parametrize("name", REQUESTS)
def test_no_failed_request_shows_a_value(safe, kind, name, caplog, capfd):
    app, raising = safe
    method, path, options = REQUESTS[name]
    caplog.set_level(logging.DEBUG, "sqlrepo")
    with serving(app) as address, client(address) as ask:
        if name == "cursor":
            path = f"/things?after={ask.get(path).json()['next']}"
        if kind is not None:
            raising.append(kind)
        answer = ask.request(method, path, **options)
        raising.clear()
    assert answer.status_code >= 400 or kind is None
    assert answer.status_code == 200 or "problem" in answer.headers["content-type"]
    assert not any(SENT in text for text in (caplog.text, *capfd.readouterr()))
    assert SENT not in answer.text or answer.status_code == 200
