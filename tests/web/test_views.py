"""Views as response models: nested rows over HTTP, and their schemas in the OpenAPI document."""

from typing import Annotated, Literal

import pytest
from fastapi import FastAPI
from pydantic import BaseModel, Field, computed_field

from sqlrepo import CursorPage, Page, QueryObject, Where
from sqlrepo.fastapi import filters, install, provide
from tests.web.domain import Dog, Kennel, Owner
from tests.web.server import client, serving


class DogQuery(QueryObject[Dog]):
    name_contains: str | None = None
    order_by: Literal["-name", "name"] = "-name"
    limit: int = Field(default=2, ge=1)
    offset: int = 0


class OwnerBrief(BaseModel):
    name: str = Field(serialization_alias="fullName")


class DogView(BaseModel):
    id: int
    owner: OwnerBrief | None
    lame: Annotated[bool, Where(lambda dog, _: dog.legs < 4)]

    @computed_field
    def tag(self) -> str:
        return f"{self.id}" if self.owner is None else f"{self.owner.name} {self.id}"


Query = Annotated[DogQuery, filters(DogQuery)]
VIEWS = [
    {"id": 3, "owner": None, "lame": False, "tag": "3"},
    {"id": 2, "owner": {"fullName": "Ann"}, "lame": True, "tag": "Ann 2"},
    {"id": 1, "owner": {"fullName": "Ann"}, "lame": False, "tag": "Ann 1"},
]


@pytest.fixture(params=["memory", "sqlite"])
def store(request, open_store):
    return open_store(request.param)


@pytest.fixture
def app(store):
    Reading = Annotated[Kennel, provide(Kennel, store, read_only=True)]
    app = FastAPI()
    install(app, store)

    @app.get("/page")
    def page(query: Query, kennel: Reading) -> Page[DogView]:
        return kennel.dogs.page(query, with_total=True, into=DogView)

    @app.get("/scroll")
    def scroll(query: Query, kennel: Reading, after: str | None = None) -> CursorPage[DogView]:
        return kennel.dogs.scroll(query, after=after, into=DogView)

    @app.get("/list")
    def find(kennel: Reading) -> list[DogView]:
        return kennel.dogs.find(order_by="-id", into=DogView)

    @app.get("/dogs/{id}")
    def get(id: int, kennel: Reading) -> DogView:
        return kennel.dogs.get(id, into=DogView)

    with Kennel(store) as kennel:
        ann = kennel.owners.add(Owner(name="Ann"))
        kennel.dogs.add_many([Dog(name="a", owner_id=ann.id), Dog(name="b", owner_id=ann.id, legs=3), Dog(name="c")])
    return app


@pytest.fixture
def ask(app):
    with serving(app) as address, client(address) as made:
        yield made


def test_a_page_holds_nested_rows(ask):
    assert ask.get("/page").json() == {"items": VIEWS[:2], "has_next": True, "total": 3}
    assert ask.get("/page?offset=2").json()["items"] == VIEWS[2:]


def test_a_cursor_leads_on_although_the_view_lacks_what_it_sorts_by(ask):
    first = ask.get("/scroll").json()
    assert first["items"] == VIEWS[:2]
    assert ask.get("/scroll", params={"after": first["next"]}).json()["items"] == VIEWS[2:]
    assert ask.get("/scroll", params={"after": first["next"], "order_by": "name"}).status_code == 422


def test_a_list_and_a_single_view(ask):
    assert ask.get("/list").json() == VIEWS
    assert ask.get("/dogs/2").json() == VIEWS[1]
    assert ask.get("/dogs/9").status_code == 404


def test_the_document_describes_what_is_nested(app):
    document = app.openapi()
    schemas = document["components"]["schemas"]
    assert schemas["OwnerBrief"]["properties"].keys() == {"fullName"}
    view = schemas["DogView"]
    assert view["properties"].keys() == {"id", "owner", "lame", "tag"}
    assert view["properties"]["owner"]["anyOf"][0] == {"$ref": "#/components/schemas/OwnerBrief"}
    assert schemas["Page_DogView_"]["properties"]["items"]["items"] == {"$ref": "#/components/schemas/DogView"}
    assert schemas["CursorPage_DogView_"]["properties"]["items"]["items"] == {"$ref": "#/components/schemas/DogView"}
