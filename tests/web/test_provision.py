"""Databases, contexts and overrides of provided units, and their end with the application."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Annotated, TypeAlias

import anyio
import pytest
import sqlalchemy as sa
from fastapi import FastAPI, Header, HTTPException, Request
from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import BaseRepository, BaseUnitOfWork, UnsupportedError, source_of
from sqlrepo.fastapi import install, override, provide, provide_stream
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncDatabase, Database
from tests.web.domain import AsyncShop, Shop, Thing, Things
from tests.web.server import client, eventually, serving


class Settings:
    """Makes a database, and counts how often."""

    def __init__(self, url="sqlite://"):
        self.url, self.made = url, []

    def database(self):
        self.made.append(Database(self.url))
        return self.made[-1]


def application(db, **options):
    app = FastAPI()
    install(app, db)
    app.state.alias = Annotated[Shop, provide(Shop, db, **options)]

    @app.get("/source")
    def source(shop: app.state.alias) -> str:
        return repr(source_of(shop))

    @app.get("/context")
    def context(shop: app.state.alias) -> str | None:
        return shop.context

    @app.post("/things")
    def add(thing: Thing, shop: app.state.alias) -> Thing:
        return shop.things.add(thing)

    return app


def test_a_function_is_called_once_at_first_use_and_its_database_disposed_of(tmp_path):
    settings = Settings(f"sqlite:///{tmp_path}/a.db")
    app = application(settings.database)
    with serving(app):
        pass
    with serving(app) as address, client(address) as ask:
        assert settings.made == []
        assert {ask.get("/source").text for _ in range(5)} == {f'"{settings.made[0]!r}"'}
        (db,) = settings.made
        with db.engine.connect():
            pass
        assert db.engine.pool.checkedin() == 1

    assert db.engine.pool.checkedin() == 0


def test_a_function_is_called_once_by_a_crowd(tmp_path):
    settings = Settings(f"sqlite:///{tmp_path}/a.db")

    def slowly():
        time.sleep(0.1)
        return settings.database()

    with serving(application(slowly)) as address, client(address) as ask, ThreadPoolExecutor(8) as threads:
        answers = [answer.status_code for answer in threads.map(lambda _: ask.get("/source"), range(8))]

    assert (answers, len(settings.made)) == ([200] * 8, 1)


def test_a_function_that_fails_is_called_again(tmp_path):
    given = iter([OSError(), Database(f"sqlite:///{tmp_path}/a.db")])

    def database():
        if isinstance(made := next(given), Exception):
            raise made
        return made

    with serving(application(database)) as address:
        with client(address) as ask:
            assert ask.get("/source").status_code == 500
        with client(address) as ask:
            assert ask.get("/source").status_code == 200


def test_a_function_that_returns_no_database_is_a_server_error():
    with serving(application(lambda: "sqlite://")) as address, client(address) as ask:
        assert ask.get("/source").json()["code"] == "internal"


async def later(): ...
def generator():
    yield


@pytest.mark.parametrize("given", ["sqlite://", None, 7, later, generator, Shop(InMemoryDatabase())])
@pytest.mark.parametrize("way", [lambda db: provide(Shop, db), lambda db: install(FastAPI(), db)])
def test_another_value_than_a_database_is_refused_at_once(given, way):
    with pytest.raises(UnsupportedError):
        way(given)


@pytest.mark.parametrize("unit", [object, Thing, Shop(InMemoryDatabase()), "Shop"])
def test_another_value_than_a_unit_class_is_refused(unit):
    with pytest.raises(UnsupportedError):
        provide(unit, InMemoryDatabase())


def test_sync_units_need_sync_databases_and_async_units_async_ones(tmp_path):
    with pytest.raises(UnsupportedError):
        provide(AsyncShop, Database(f"sqlite:///{tmp_path}/a.db"))
    with pytest.raises(UnsupportedError):
        provide(Shop, AsyncDatabase(f"sqlite+aiosqlite:///{tmp_path}/a.db"))
    with pytest.raises(UnsupportedError):
        override(FastAPI(), Annotated[Shop, provide(Shop, InMemoryDatabase())], AsyncDatabase("sqlite+aiosqlite://"))


class Early(BaseUnitOfWork):
    things: "LateThings"


EARLY = Annotated[Early, provide(Early, InMemoryDatabase())]


class LateThings(Things): ...


def test_an_alias_may_be_defined_before_the_repositories():
    app = FastAPI()

    @app.get("/")
    def count(early: EARLY) -> int:
        return early.things.count()

    with serving(app) as address, client(address) as ask:
        assert ask.get("/").json() == 0


def test_a_replacement_that_cannot_hold_a_table_refuses_its_repository(tmp_path):
    class Odd(DeclarativeBase): ...

    class PointRow(Odd):
        __tablename__ = "point"
        id: Mapped[int] = mapped_column(primary_key=True)
        twice: Mapped[int] = mapped_column(sa.Computed("hashed_by_the_server(id)"))

    class Point(BaseModel):
        id: int | None = None
        twice: int | None = None

    class Points(BaseRepository[Point, int]):
        model = PointRow

    class Plane(BaseUnitOfWork):
        points: Points

    alias = Annotated[Plane, provide(Plane, Database(f"sqlite:///{tmp_path}/a.db"))]

    store = InMemoryDatabase()
    override(FastAPI(), alias, store)
    with pytest.raises(UnsupportedError, match="twice"), Plane(store) as plane:
        plane.points.find()


@pytest.mark.parametrize("alias", [Shop, None, Annotated[Shop, "x"], Annotated[Shop, Header()]])
def test_override_refuses_another_alias(alias):
    with pytest.raises(UnsupportedError):
        override(FastAPI(), alias, InMemoryDatabase())


def tenant(x_tenant: Annotated[str, Header()] = "none") -> str:
    if x_tenant == "nobody":
        raise HTTPException(401)
    return x_tenant


def test_a_dependency_gives_the_context():
    with serving(application(InMemoryDatabase())) as address, client(address) as ask:
        assert ask.get("/context").json() is None
    app = application(InMemoryDatabase(), context=tenant)
    with serving(app) as address, client(address) as ask:
        assert ask.get("/context", headers={"X-Tenant": "acme"}).json() == "acme"
        assert ask.get("/context").json() == "none"
        assert ask.get("/context", headers={"X-Tenant": "nobody"}).status_code == 401
        override(app, app.state.alias, InMemoryDatabase())
        assert ask.get("/context", headers={"X-Tenant": "acme"}).json() == "acme"
        app.dependency_overrides[tenant] = lambda: "other"
        assert ask.get("/context").json() == "other"


def test_only_dependencies_with_equal_arguments_are_equal():
    db, other = InMemoryDatabase(), InMemoryDatabase()
    first = provide(Shop, db).dependency

    assert first == provide(Shop, db).dependency
    assert len({first, provide(Shop, db).dependency}) == 1
    assert first != provide(Shop, other).dependency
    assert first != provide(Shop, db, read_only=True).dependency
    assert first != provide(Shop, db, context=tenant).dependency
    assert first != provide(AsyncShop, db).dependency
    assert first != provide_stream(Shop, db).dependency
    assert provide(Shop, Settings().database) is not None


def test_an_override_may_be_anything_fastapi_takes():
    app = application(InMemoryDatabase())
    other = InMemoryDatabase()

    def own():
        with Shop(other) as shop:
            yield shop

    app.dependency_overrides[provide(Shop, InMemoryDatabase()).dependency] = own  # another one: no effect
    with serving(app) as address, client(address) as ask:
        ask.post("/things", json={"key": "a"})
        app.dependency_overrides = {app.state.alias.__metadata__[0].dependency: own}
        ask.post("/things", json={"key": "b"})

    with Shop(other) as shop:
        assert [thing.key for thing in shop.things.find()] == ["b"]


def test_the_applications_lifespan_runs_within_ours(tmp_path):
    db, seen = Database(f"sqlite:///{tmp_path}/a.db"), []

    @asynccontextmanager
    async def lifespan(app):
        with db.engine.connect():
            seen.append("begun")
        yield {"number": 7}
        seen.append(db.engine.pool.checkedin())

    app = FastAPI(lifespan=lifespan)
    install(app, db)

    @app.get("/")
    def number(request: Request) -> int:
        return request.state.number

    with serving(app) as address, client(address) as ask:
        assert ask.get("/").json() == 7
    assert seen == ["begun", 1]
    assert db.engine.pool.checkedin() == 0


def test_async_databases_are_disposed_of(tmp_path):
    db = AsyncDatabase(f"sqlite+aiosqlite:///{tmp_path}/a.db")
    app = FastAPI()
    install(app, db)

    async def life():
        async with app.router.lifespan_context(app):
            async with db.engine.connect():
                pass
            assert db.engine.pool.checkedin() == 1

    anyio.run(life)
    assert db.engine.pool.checkedin() == 0


def test_a_database_that_fails_to_close_keeps_no_other_open(tmp_path, monkeypatch):
    good, bad = Database(f"sqlite:///{tmp_path}/a.db"), InMemoryDatabase()

    def fail(self):
        raise NotADirectoryError

    monkeypatch.setattr(InMemoryDatabase, "dispose", fail)
    app = FastAPI()
    install(app, good, bad)

    async def life():
        async with app.router.lifespan_context(app):
            with good.engine.connect():
                pass

    with pytest.raises(NotADirectoryError):
        anyio.run(life)
    assert good.engine.pool.checkedin() == 0


def test_each_request_in_each_event_loop_has_a_unit_of_its_own():
    db, units = InMemoryDatabase(), []
    app = FastAPI()
    ShopDep: TypeAlias = Annotated[Shop, provide(Shop, db)]

    @app.get("/")
    async def collect(shop: ShopDep, same: ShopDep) -> bool:
        units.append(shop)
        return shop is same

    for _ in range(2):
        with serving(app) as address, client(address) as ask:
            assert [ask.get("/").json() for _ in range(2)] == [True] * 2

    assert len(set(map(id, units))) == 4
    assert eventually(lambda: not any(unit.is_open for unit in units))


def test_databases_report_the_size_and_timeout_of_their_pool(tmp_path):
    url = f"sqlite:///{tmp_path}/a.db"

    assert (
        Database(url).max_connections,
        Database("sqlite://").max_connections,
        InMemoryDatabase().max_connections,
    ) == (15, 1, None)
    assert AsyncDatabase(f"sqlite+aiosqlite:///{tmp_path}/a.db").max_connections == 15
    assert (Database(url).pool_timeout, InMemoryDatabase().pool_timeout) == (30, None)


def test_an_application_does_not_start_on_trio():
    app = FastAPI()
    install(app, InMemoryDatabase())

    async def life():
        async with app.router.lifespan_context(app):
            raise AssertionError

    with pytest.raises(UnsupportedError):
        anyio.run(life, backend="trio")


@pytest.mark.parametrize("kind", ["memory", "file", "function"])
def test_a_request_on_trio_raises(kind, tmp_path):
    settings = Settings()
    given = {"memory": InMemoryDatabase(), "file": Database(f"sqlite:///{tmp_path}/a.db")}.get(kind, settings.database)
    dependency = provide(Shop, given).dependency

    async def ask():
        async for _ in dependency():
            raise AssertionError

    with pytest.raises(UnsupportedError):
        anyio.run(ask, backend="trio")
    assert settings.made == []
