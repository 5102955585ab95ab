"""What the help desk answers, ours on each store and the one by hand: the same."""

from collections.abc import Iterator
from typing import Any

import pytest

from examples.helpdesk.app import create_app
from sqlrepo.fastapi import check_routes
from sqlrepo.memory import InMemoryDatabase
from tests.helpdesk.applications import ACME, OTHER, Caller, Desk, opened

BOB = Caller(1, 2)
APPLICATIONS = [
    ("ours", "memory"),
    ("ours", "sqlite"),
    ("ours", "postgresql"),
    ("by hand", "sqlite"),
    ("by hand", "postgresql"),
]


@pytest.fixture(params=APPLICATIONS, ids="-".join, scope="module")
def desk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """An application for tests that change nothing."""
    with opened(*request.param, tmp_path_factory.mktemp("desk"), "usual") as desk:
        yield desk


@pytest.fixture(params=APPLICATIONS, ids="-".join)
def fresh(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Desk]:
    with opened(*request.param, tmp_path) as desk:
        yield desk


def ids(desk: Desk, query: str = "", caller: Caller = ACME) -> list[int]:
    answer = desk.ask("GET", f"/tickets?{query}", caller)
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


def shown(desk: Desk, id: int, caller: Caller = ACME) -> Any:
    answer = desk.ask("GET", f"/tickets/{id}", caller)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_list_nests_what_it_shows(desk: Desk) -> None:
    answer = desk.ask("GET", "/tickets?order_by=created_at&limit=2").json()

    assert (answer["has_next"], answer["total"]) == (True, 5)
    assert answer["items"] == [
        {
            "id": 1,
            "title": "ticket tea 1",
            "status": "open",
            "priority": 0,
            "created_at": "2024-05-01T12:00:00Z",
            "version": 1,
            "project": {"id": 1, "name": "Web"},
            "assignee": {"id": 1, "name": "A"},
            "tags": [{"id": 1, "name": "red"}],
            "comment_count": 3,
            "starred": True,
        },
        {
            "id": 2,
            "title": "ticket cafe 2",
            "status": "open",
            "priority": 1,
            "created_at": "2024-05-01T12:00:00Z",
            "version": 1,
            "project": {"id": 2, "name": "Mail"},
            "assignee": {"id": 2, "name": "B"},
            "tags": [{"id": 1, "name": "red"}, {"id": 2, "name": "green"}],
            "comment_count": 1,
            "starred": False,
        },
    ]
    third, fourth = desk.ask("GET", "/tickets?order_by=created_at&limit=2&offset=2").json()["items"]
    assert (third["comment_count"], third["starred"]) == (0, False)
    assert (fourth["assignee"], fourth["tags"], fourth["comment_count"]) == (None, [], 1)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [5, 4, 3, 2, 1]),
        ("order_by=created_at", [1, 2, 3, 4, 5]),
        ("order_by=-priority", [3, 5, 2, 4, 1]),
        ("order_by=title", [2, 5, 1, 3, 4]),
        ("order_by=project_id__name", [2, 4, 1, 3, 5]),
        ("status=open", [5, 2, 1]),
        ("project_id=2", [4, 2]),
        ("assignee=B", [5, 2]),
        ("tag=red", [2, 1]),
        ("tag=green&status=open", [5, 2]),
        ("text=CAFE", [5, 2]),
        ("text=100%25", [3]),
        ("text=%25 broken", [3]),
        ("text=1__ broken", []),
        ("tag=red&assignee=A&text=tea", [1]),
        ("tag=nothing", []),
        ("limit=2&offset=1", [4, 3]),
        ("offset=9", []),
    ],
)
def test_filters_orders_and_pages(desk: Desk, query: str, found: list[int]) -> None:
    assert ids(desk, query) == found


@pytest.mark.parametrize(("query", "total"), [("tag=red&limit=1", 2), ("status=open&limit=1", 3), ("offset=9", 5)])
def test_total_counts_what_the_filters_find(desk: Desk, query: str, total: int) -> None:
    assert desk.ask("GET", f"/tickets?{query}").json()["total"] == total


@pytest.mark.parametrize("query", ["status=lost", "order_by=body", "limit=0", "limit=101", "offset=-1", "nonsense=1"])
def test_other_queries_are_422(desk: Desk, query: str) -> None:
    assert desk.ask("GET", f"/tickets?{query}").status_code == 422


def test_stars_are_those_of_the_caller(desk: Desk) -> None:
    starred = [item["id"] for item in desk.ask("GET", "/tickets", BOB).json()["items"] if item["starred"]]

    assert starred == [3, 1]
    assert shown(desk, 3, BOB)["starred"] is True
    assert shown(desk, 3)["starred"] is False


def test_ticket_has_comments_and_their_authors(desk: Desk) -> None:
    answer = desk.ask("GET", "/tickets/1")

    assert answer.headers["etag"] == '"1"'
    assert answer.json() == {
        "id": 1,
        "title": "ticket tea 1",
        "body": "works",
        "status": "open",
        "priority": 0,
        "created_at": "2024-05-01T12:00:00Z",
        "version": 1,
        "project": {"id": 1, "name": "Web"},
        "assignee": {"id": 1, "name": "A"},
        "tags": [{"id": 1, "name": "red"}],
        "starred": True,
        "comments": [
            {
                "id": n,
                "body": f"comment {n - 1}",
                "created_at": "2024-05-01T12:00:00Z",
                "author": {"id": n, "name": name},
            }
            for n, name in ((1, "A"), (2, "B"), (3, "C"))
        ],
    }


def test_ticket_is_created_with_tags(fresh: Desk) -> None:
    new = {"project_id": 2, "assignee_id": 3, "title": "new", "priority": 7, "tag_ids": [3, 1]}
    answer = fresh.ask("POST", "/tickets", json=new)
    made = answer.json()

    assert answer.status_code == 201, answer.text
    assert sorted(made.pop("tag_ids")) == [1, 3]
    assert made.pop("created_at")
    number = made.pop("id")
    assert made == {
        "project_id": 2, "assignee_id": 3, "title": "new", "body": "", "status": "open", "priority": 7, "version": 1,
    }  # fmt: skip
    assert [tag["name"] for tag in shown(fresh, number)["tags"]] == ["red", "blue"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"project_id": 9, "title": "x"}, 404),
        ({"project_id": 1, "title": "x", "assignee_id": 9}, 404),
        ({"project_id": 1, "title": "x", "tag_ids": [1, 9]}, 404),
        ({"project_id": 1, "title": ""}, 422),
        ({"project_id": 1, "title": "x" * 201}, 422),
        ({"project_id": 1, "title": "x", "tenant_id": 2}, 422),
        ({"title": "x"}, 422),
    ],
)
def test_ticket_that_cannot_be(desk: Desk, body: dict[str, Any], status: int) -> None:
    assert desk.ask("POST", "/tickets", json=body).status_code == status
    assert len(ids(desk)) == 5


def test_title_and_tags_are_edited_with_the_version(fresh: Desk) -> None:
    answer = fresh.ask("PATCH", "/tickets/1", json={"title": "b", "tag_ids": [3]}, headers={"if-match": '"1"'})
    assert (answer.status_code, answer.headers["etag"]) == (200, '"2"')
    assert (answer.json()["title"], answer.json()["tag_ids"], answer.json()["version"]) == ("b", [3], 2)

    answer = fresh.ask("PATCH", "/tickets/1", json={"tag_ids": []}, headers={"if-match": '"2"'})
    assert (answer.json()["title"], answer.json()["tag_ids"], answer.json()["version"]) == ("b", [], 3)

    assert fresh.ask("PATCH", "/tickets/1", json={"title": "c"}, headers={"if-match": '"2"'}).status_code == 412
    assert fresh.ask("PATCH", "/tickets/1", json={"title": "c", "version": 2}).status_code == 409
    assert fresh.ask("PATCH", "/tickets/1", json={"tag_ids": [1], "version": 2}).status_code == 409
    assert fresh.ask("PATCH", "/tickets/1", json={"status": "closed", "version": 3}).status_code == 200
    assert fresh.ask("PATCH", "/tickets/1", json={"assignee_id": None}).json()["assignee_id"] is None
    assert (shown(fresh, 1)["title"], shown(fresh, 1)["tags"], shown(fresh, 1)["status"]) == ("b", [], "closed")


@pytest.mark.parametrize(
    ("id", "changes", "status"),
    [
        (9, {"title": "x"}, 404),
        (6, {"title": "x"}, 404),
        (1, {"tag_ids": [9]}, 404),
        (1, {"assignee_id": 9}, 404),
        (1, {"title": ""}, 422),
        (1, {"deleted": True}, 422),
    ],
)
def test_changes_that_cannot_be(desk: Desk, id: int, changes: dict[str, Any], status: int) -> None:
    before = shown(desk, 1)
    assert desk.ask("PATCH", f"/tickets/{id}", json=changes).status_code == status
    assert shown(desk, 1) == before


def test_comments_are_added_and_edited_by_their_author(fresh: Desk) -> None:
    answer = fresh.ask("POST", "/tickets/3/comments", BOB, json={"body": "first"})
    made = answer.json()
    assert answer.status_code == 201, answer.text
    assert made.pop("created_at")
    assert made == {"id": 7, "ticket_id": 3, "author_id": 2, "body": "first"}

    assert fresh.ask("PATCH", "/tickets/3/comments/7", BOB, json={"body": "second"}).json()["body"] == "second"
    assert fresh.ask("PATCH", "/tickets/3/comments/7", json={"body": "third"}).status_code == 404
    assert fresh.ask("PATCH", "/tickets/1/comments/7", BOB, json={"body": "third"}).status_code == 404
    assert fresh.ask("POST", "/tickets/6/comments", json={"body": "x"}).status_code == 404
    assert fresh.ask("POST", "/tickets/1/comments", json={"body": ""}).status_code == 422
    comments = shown(fresh, 3)["comments"]
    assert [(one["body"], one["author"]["name"]) for one in comments] == [("second", "B")]


def test_facets_count_by_status(desk: Desk) -> None:
    assert desk.ask("GET", "/tickets/facets").json() == {"open": 3, "waiting": 1, "closed": 1}
    assert desk.ask("GET", "/tickets/facets?tag=green").json() == {"open": 2}
    assert desk.ask("GET", "/tickets/facets?assignee=C").json() == {"closed": 1}
    assert desk.ask("GET", "/tickets/facets?tag=nothing").json() == {}


def test_projects_are_summarized(desk: Desk) -> None:
    assert desk.ask("GET", "/projects/summary").json() == [
        {"project_id": 1, "project": "Web", "count": 3, "priority_max": 2},
        {"project_id": 2, "project": "Mail", "count": 2, "priority_max": 1},
    ]


def test_deleted_ticket_is_gone_everywhere(fresh: Desk) -> None:
    assert fresh.ask("DELETE", "/tickets/5").status_code == 204
    assert fresh.ask("DELETE", "/tickets/5").status_code == 404
    assert fresh.ask("GET", "/tickets/5").status_code == 404
    assert ids(fresh) == [4, 3, 2, 1]
    assert fresh.ask("GET", "/tickets/facets").json()["open"] == 2
    assert fresh.ask("GET", "/projects/summary").json()[0]["count"] == 2
    assert fresh.ask("PUT", "/tickets/5/star").status_code == 404


def test_stars_are_set_and_taken_back(fresh: Desk) -> None:
    for _ in range(2):
        assert fresh.ask("PUT", "/tickets/4/star").status_code == 204
    assert shown(fresh, 4)["starred"] is True
    assert shown(fresh, 4, BOB)["starred"] is False
    for _ in range(2):
        assert fresh.ask("DELETE", "/tickets/4/star").status_code == 204
    assert shown(fresh, 4)["starred"] is False
    assert shown(fresh, 1)["starred"] is True


def test_another_tenant_is_never_seen(desk: Desk) -> None:
    for query in ("", "text=secret", "tag=red&order_by=-priority", "assignee=A&order_by=project_id__name"):
        assert 7 not in ids(desk, query)
    assert ids(desk, "", OTHER) == ids(desk, "tag=red&assignee=A&text=secret", OTHER) == [7]
    assert ids(desk, "tag=green", OTHER) == []
    assert desk.ask("GET", "/tickets?limit=1", OTHER).json()["total"] == 1
    assert desk.ask("GET", "/tickets/facets", OTHER).json() == {"open": 1}
    assert desk.ask("GET", "/projects/summary", OTHER).json() == [
        {"project_id": 3, "project": "Web", "count": 1, "priority_max": 99}
    ]
    assert shown(desk, 7, OTHER)["comments"][0]["author"] == {"id": 4, "name": "A"}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/tickets/7", None),
        ("PATCH", "/tickets/7", {"title": "stolen"}),
        ("DELETE", "/tickets/7", None),
        ("PUT", "/tickets/7/star", None),
        ("DELETE", "/tickets/7/star", None),
        ("POST", "/tickets/7/comments", {"body": "x"}),
        ("PATCH", "/tickets/7/comments/6", {"body": "x"}),
        ("PATCH", "/tickets/1/comments/6", {"body": "x"}),
        ("POST", "/tickets", {"project_id": 3, "title": "x"}),
        ("POST", "/tickets", {"project_id": 1, "assignee_id": 4, "title": "x"}),
        ("POST", "/tickets", {"project_id": 1, "tag_ids": [4], "title": "x"}),
        ("PATCH", "/tickets/1", {"tag_ids": [4]}),
        ("PATCH", "/tickets/1", {"assignee_id": 4}),
    ],
)
def test_another_tenants_rows_are_out_of_reach(desk: Desk, method: str, path: str, body: Any) -> None:
    before = shown(desk, 7, OTHER), shown(desk, 1)

    assert desk.ask(method, path, json=body).status_code == 404
    assert (shown(desk, 7, OTHER), shown(desk, 1)) == before


def test_routes_lose_nothing() -> None:
    check_routes(create_app(InMemoryDatabase()))
