"""Routes that would lose writes or ignore filters are refused before anything is served."""

import dataclasses
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

import anyio
import pytest
from fastapi import APIRouter, Depends, FastAPI, Query
from fastapi.responses import StreamingResponse
from fastapi.security import APIKeyQuery

from sqlrepo.fastapi import RouteError, Stream, check_routes, filters, install, provide, provide_stream
from sqlrepo.memory import InMemoryDatabase
from tests.web.domain import AsyncShop, Shop, ThingQuery

DB, OTHER = InMemoryDatabase(), InMemoryDatabase()


def database():
    return DB


class Settings:
    def database(self):
        return OTHER


SETTINGS = Settings()

ShopDep = Annotated[Shop, provide(Shop, DB)]
Reading = Annotated[Shop, provide(Shop, DB, read_only=True)]
Elsewhere = Annotated[Shop, provide(Shop, OTHER)]
ByFunction = Annotated[Shop, provide(Shop, database)]
ReadingByFunction = Annotated[Shop, provide(Shop, database, read_only=True)]
Late = Annotated[Shop, dataclasses.replace(provide(Shop, DB), scope="request")]
Default = Annotated[Shop, Depends(provide(Shop, DB).dependency)]
Apart = Annotated[Shop, dataclasses.replace(provide(Shop, DB), use_cache=False)]
AsyncDep = Annotated[AsyncShop, provide(AsyncShop, DB)]
ShopStream = Annotated[Stream[Shop], provide_stream(Shop, DB)]


def stock() -> Iterator[Shop]:
    with Shop(DB) as shop:
        yield shop


async def untold():
    async with AsyncShop(DB) as shop:
        yield shop


def service(shop: ShopDep) -> Shop:
    return shop


def user(token: str = "") -> str:
    return token


# -- refused


def late(shop: Late): ...
def default(shop: Default): ...
def own(shop: Annotated[Shop, Depends(stock)]): ...
def own_untold(shop: Annotated[AsyncShop, Depends(untold)]): ...
def own_unnamed(shop=Depends(stock)): ...  # noqa: B008  # as older code has it
def generator(shop: ShopDep):
    yield from ()


async def async_generator(shop: AsyncDep) -> AsyncIterator[str]:
    yield ""


def nested_generator(shop: Annotated[Shop, Depends(service)]):
    yield from ()


def streaming(shop: ShopDep) -> StreamingResponse: ...
def reads_and_writes(shop: ShopDep, reading: Reading): ...
def below(shop: Annotated[Shop, Depends(service)], reading: Reading): ...
def apart(shop: ShopDep, other: Apart): ...
def by_function(shop: ByFunction, reading: ReadingByFunction): ...
def by_method(
    shop: Annotated[Shop, provide(Shop, SETTINGS.database)],
    reading: Annotated[Shop, provide(Shop, SETTINGS.database, read_only=True)],
): ...
def bare_depends(query: Annotated[ThingQuery, Depends()]): ...
def depends_on_class(query=Depends(ThingQuery)): ...  # noqa: B008  # as older code has it
def bare_beside(query: Annotated[ThingQuery, Query()], verbose: bool = False): ...
def bare_below(query: Annotated[ThingQuery, Query()], name: Annotated[str, Depends(user)]): ...
def bare_with_key(query: Annotated[ThingQuery, Query()], key: Annotated[str, Depends(APIKeyQuery(name="key"))]): ...
def bare_beside_filters(
    query: Annotated[ThingQuery, Query()], more: Annotated[str, filters(ThingQuery)], a: int = 0
): ...


# -- accepted


def once(shop: ShopDep): ...
def shared(shop: ShopDep, again: ShopDep, deep: Annotated[Shop, Depends(service)]): ...
def equal(shop: ShopDep, same: Annotated[Shop, provide(Shop, DB)]): ...
def two_databases(shop: ShopDep, other: Elsewhere): ...
def stream(stream: ShopStream) -> StreamingResponse: ...
def stream_and_unit(stream: ShopStream, shop: ShopDep): ...
def own_early(shop: Annotated[Shop, Depends(stock, scope="function")]): ...
def bare_alone(query: Annotated[ThingQuery, Query()]): ...
def filtered(query: Annotated[ThingQuery, filters(ThingQuery)], verbose: bool = False): ...


REFUSED = [
    (late, "request_order"), (default, "request_order"), (own, "request_order"), (own_untold, "request_order"),
    (own_unnamed, "request_order"), (generator, "generator"), (async_generator, "generator"),
    (nested_generator, "generator"), (streaming, "streaming"), (reads_and_writes, "twice"), (below, "twice"),
    (apart, "twice"), (by_function, "twice"), (by_method, "twice"),
    (bare_depends, "bare_depends"), (depends_on_class, "bare_depends"), (bare_beside, "bare_query"),
    (bare_below, "bare_query"), (bare_with_key, "bare_query"), (bare_beside_filters, "bare_query"),
]  # fmt: skip
ACCEPTED = [
    once, shared, equal, two_databases, stream, stream_and_unit, own_early, bare_alone, filtered
]  # fmt: skip


def named(function):
    return getattr(function, "__name__", None)


@pytest.mark.parametrize(("endpoint", "reason"), REFUSED, ids=named)
def test_a_refusal_names_the_route_and_the_reason(endpoint, reason):
    app = FastAPI()
    app.get("/way", response_model=None)(endpoint)

    with pytest.raises(RouteError) as refused:
        check_routes(app)

    (refusal,) = refused.value.refusals
    assert (refusal.route, refusal.reason) == ("GET /way", reason)
    assert refusal.name.count("provide(") == 2 or reason != "twice"


@pytest.mark.parametrize("endpoint", ACCEPTED, ids=named)
def test_an_accepted_route(endpoint):
    app = FastAPI()
    app.get("/way", response_model=None)(endpoint)

    check_routes(app)


def test_a_streaming_response_class_is_refused():
    app = FastAPI()
    app.get("/way", response_class=StreamingResponse)(once)

    with pytest.raises(RouteError) as refused:
        check_routes(app)

    assert [refusal.reason for refusal in refused.value.refusals] == ["streaming"]


def test_routes_of_routers_and_mounted_applications_are_found():
    app, mounted, router, inner = FastAPI(), FastAPI(), APIRouter(prefix="/a"), APIRouter(prefix="/b")
    inner.post("/c")(late)
    router.include_router(inner)
    app.include_router(router)
    mounted.get("/m")(own)
    app.mount("/sub", mounted)

    with pytest.raises(RouteError) as refused:
        check_routes(app)

    assert [refusal.route for refusal in refused.value.refusals] == ["POST /a/b/c", "GET /sub/m"]


def test_dependencies_of_a_router_are_checked():
    app, router = FastAPI(), APIRouter()
    router.get("/way")(once)
    app.include_router(router, dependencies=[provide(Shop, DB, read_only=True)])

    with pytest.raises(RouteError) as refused:
        check_routes(app)

    reasons = {refusal.reason for refusal in refused.value.refusals}
    assert reasons - {"request_order"} == {"twice"}  # 0.121 forgets the scope of what is added so, which is refused too


def test_all_refusals_are_raised_at_once():
    app = FastAPI()
    for number, (endpoint, _) in enumerate(REFUSED):
        app.get(f"/{number}", response_model=None)(endpoint)

    with pytest.raises(RouteError) as refused:
        check_routes(app)

    assert [refusal.reason for refusal in refused.value.refusals] == [reason for _, reason in REFUSED]


def test_an_application_with_a_refused_route_does_not_start():
    app = FastAPI()
    install(app, DB)
    app.get("/way")(late)

    async def life():
        async with app.router.lifespan_context(app):
            raise AssertionError

    with pytest.raises(RouteError):
        anyio.run(life)


def test_a_fastapi_without_scopes_is_refused_when_it_is_imported():
    program = (
        "import fastapi\n"
        "class Depends:\n    def __init__(self, dependency=None, *, use_cache=True): ...\n"
        "fastapi.Depends = fastapi.params.Depends = Depends\n"
        "from sqlrepo import UnsupportedError\n"
        "try:\n    import sqlrepo.fastapi\nexcept UnsupportedError:\n    print('refused')"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert (ran.returncode, ran.stdout.strip()) == (0, "refused"), ran.stderr
