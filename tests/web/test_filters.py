"""Query objects are read from the query like other parameters, and undeclared parameters are refused."""

from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from fastapi import APIRouter, Depends, FastAPI, Query, Security
from fastapi.dependencies.utils import get_dependant
from fastapi.exception_handlers import request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.security import APIKeyQuery
from pydantic import AliasChoices, BaseModel, Field, model_validator

from sqlrepo import QueryObject, UnsupportedError, Where, contains
from sqlrepo.fastapi import filters, install, queries
from tests.web.domain import Thing, ThingQuery
from tests.web.server import client, serving


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Car(BaseModel):
    id: int
    name: str
    color: Color
    doors: int | None = None
    price: float = 0.0


class CarQuery(QueryObject[Car]):
    name: str
    color_in: list[Color] | None = None
    doors_between: tuple[int, int] | None = None
    doors_is_null: bool | None = None
    price_ge: float | None = Field(default=None, ge=0)
    text: Annotated[str | None, Where(lambda t, v: contains(t.name, v))] = None
    order_by: Literal["name", "-name"] | None = None

    @model_validator(mode="after")
    def _doors_are_asked_once(self):
        if self.doors_between and self.doors_is_null:
            raise ValueError("doors are asked for twice")
        return self


class OddQuery(QueryObject[Car]):
    color_in: list[Color] = Field(default_factory=lambda: [Color.RED])
    price_ge: float | None = Field(default=None, alias="from", title="Dearer than", ge=0)


class MovedQuery(QueryObject[Car]):
    offset: int = Field(default=0, ge=0, validation_alias=AliasChoices("skip", "start"))
    limit: int = 10


def token(token: str = "") -> str:
    return token


def tenant(tenant: Annotated[str, Query(alias="t")], name: Annotated[str, Depends(token)]) -> str:
    return tenant + name


def shown(query: QueryObject[Any]) -> dict[str, Any]:
    return {"set": sorted(query.model_fields_set), "values": query.model_dump(mode="json")}


key_in_query = APIKeyQuery(name="api_key", auto_error=False)


def application():
    app, router = FastAPI(), APIRouter(prefix="/deep")
    install(app)
    app.add_exception_handler(RequestValidationError, request_validation_exception_handler)  # it shows more

    @app.get("/things")
    def things(query: Annotated[ThingQuery, filters(ThingQuery)]) -> dict[str, Any]:
        return shown(query)

    @app.get("/cars")
    def cars(query: Annotated[CarQuery, filters(CarQuery)], verbose: bool = False) -> dict[str, Any]:
        return shown(query)

    @app.get("/odd")
    def odd(query: Annotated[OddQuery, filters(OddQuery)]) -> dict[str, Any]:
        return shown(query)

    @app.get("/bare")
    def bare(query: Annotated[CarQuery, Query()]) -> dict[str, Any]:
        return shown(query)

    @app.get("/both")
    def both(
        cars: Annotated[CarQuery, filters(CarQuery)], things: Annotated[ThingQuery, filters(ThingQuery)]
    ) -> list[dict[str, Any]]:
        return [shown(cars), shown(things)]

    @router.get("/cars")
    def deep(
        query: Annotated[CarQuery, filters(CarQuery)],
        t: Annotated[str, Depends(tenant)],
        key: Annotated[str | None, Security(key_in_query)],
    ) -> dict[str, Any]:
        return shown(query)

    app.include_router(router, dependencies=[Depends(of_the_router)])
    return app


def of_the_router(lang: str = "") -> str:
    return lang


@pytest.fixture(scope="module")
def app():
    return application()


@pytest.fixture(scope="module")
def ask(app):
    with serving(app) as address, client(address) as made:
        yield made.get


QUERIES = [
    "name=a",
    "name=a&color_in=red&color_in=blue",
    "name=a&color_in=blue",
    "name=a&doors_between=2&doors_between=5",
    "name=a&doors_is_null=true",
    "name=a&price_ge=1.5",
    "name=a&text=b&order_by=-name",
    "name=",
    "name=a&name=b",
    "",
    "name=a&color_in=green",
    "name=a&color_in=green&price_ge=-1",
    "name=a&doors_between=2",
    "name=a&doors_between=2&doors_between=x",
    "name=a&doors_is_null=perhaps",
    "name=a&price_ge=-1",
    "name=a&price_gt=1",
    "name=a&order_by=price",
    "name=a&unknown=1",
    "name=a&doors_between=2&doors_between=5&doors_is_null=true",
]


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_object_is_read_as_by_a_bare_query(ask, query):
    """Without other parameters FastAPI's own reading is right, on every version."""
    ours, theirs = ask(f"/cars?{query}"), ask(f"/bare?{query}")

    assert ours.status_code == theirs.status_code
    if theirs.status_code == 200:
        assert ours.json() == theirs.json()
    else:
        assert wrong(ours) <= wrong(theirs)  # we look for unknown keys once the others are valid


def wrong(answer):
    return {(each["type"], tuple(each["loc"])) for each in answer.json()["detail"]}


def test_values_that_were_not_sent_are_not_set(ask):
    assert ask("/things?size_ge=1").json()["set"] == ["size_ge"]
    assert ask("/things").json() == {"set": [], "values": ThingQuery().model_dump(mode="json")}


def test_a_default_factory_does_not_set_its_field(ask):
    assert ask("/odd").json() == {"set": [], "values": {"color_in": ["red"], "price_ge": None}}


def test_an_alias_replaces_the_name(ask):
    assert ask("/odd?from=2").json() == {"set": ["price_ge"], "values": {"color_in": ["red"], "price_ge": 2.0}}
    assert ask("/odd?price_ge=2").status_code == 422
    assert wrong(ask("/odd?from=-1")) == {("greater_than_equal", ("query", "from"))}


def test_other_parameters_are_allowed(ask):
    assert ask("/cars?name=a&verbose=true").status_code == 200
    assert ask("/cars?name=a&verbos=true").status_code == 422


def test_a_route_may_have_several_query_objects(ask):
    answer = ask("/both?name=a&size_ge=3&text=b")

    cars, things = answer.json()
    assert (cars["set"], things["set"]) == (["name", "text"], ["size_ge"])
    assert ask("/both?name=a&other=1").status_code == 422


def test_parameters_of_dependencies_are_allowed(ask):
    assert ask("/deep/cars?name=a&t=1&token=2&api_key=3&lang=4").status_code == 200
    assert ask("/deep/cars?name=a&t=1&tenant=2").status_code == 422


def test_parameters_of_an_override_are_allowed():
    app = application()
    app.dependency_overrides[tenant] = lambda who: who
    with serving(app) as address, client(address) as made:
        assert made.get("/deep/cars?name=a&who=1").status_code == 200
        assert made.get("/deep/cars?name=a&who=1&t=1").status_code == 422
        app.dependency_overrides.clear()
        assert made.get("/deep/cars?name=a&t=1").status_code == 200


def test_overrides_are_looked_at_when_they_change_and_not_at_each_request(monkeypatch):
    read = []
    monkeypatch.setattr(queries, "get_dependant", lambda **given: read.append(given) or get_dependant(**given))
    app = application()
    app.dependency_overrides[tenant] = lambda who: who
    with serving(app) as address, client(address) as made:
        for _ in range(3):
            assert made.get("/deep/cars?name=a&who=1").status_code == 200
    assert len(read) == 1


def test_the_documentation_shows_each_filter_and_sort_key(app):
    shown = {each["name"]: each for each in app.openapi()["paths"]["/things"]["get"]["parameters"]}

    assert set(shown) == set(ThingQuery.model_fields)
    assert shown["order_by"]["schema"]["enum"] == ["key", "-key", "size", "-size,key"]
    assert shown["size_in"]["schema"]["anyOf"][0] == {"type": "array", "items": {"type": "integer"}}
    limit = shown["limit"]
    assert (limit["description"], limit["required"]) == ("how many", False)
    assert {name: limit["schema"][name] for name in ("type", "minimum", "maximum", "default")} == {
        "type": "integer",
        "minimum": 1,
        "maximum": 100,
        "default": 3,
    }


def test_the_documentation_shows_aliases_and_required_filters(app):
    paths = app.openapi()["paths"]
    assert all("requestBody" not in path["get"] for path in paths.values())
    cars, odd = ({each["name"]: each for each in paths[path]["get"]["parameters"]} for path in ("/cars", "/odd"))

    assert (cars["name"]["required"], cars["verbose"]["schema"]["type"]) == (True, "boolean")
    assert set(odd) == {"color_in", "from"}
    assert (odd["from"]["schema"]["title"], odd["color_in"]["required"]) == ("Dearer than", False)


def test_filters_refuses_another_class():
    with pytest.raises(UnsupportedError):
        filters(Thing)


def test_a_filter_is_read_from_each_of_its_aliases():
    app = FastAPI()
    install(app)

    @app.get("/cars")
    def cars(
        query: Annotated[MovedQuery, filters(MovedQuery)], more: Annotated[ThingQuery, filters(ThingQuery)]
    ) -> int:
        return query.offset

    with serving(app) as address, client(address) as ask:
        assert [ask.get(f"/cars?{name}=2").json() for name in ("skip", "start")] == [2, 2]
        for wrong in ("skip=-1", "start=-1", "skipped=2"):
            assert ask.get(f"/cars?{wrong}").status_code == 422
