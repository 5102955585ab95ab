"""The way from page to page, as the header ``Link`` (RFC 8288).

Knows which query parameters lead to the next page. Must not know what is on a page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeAlias, TypeVar
from urllib.parse import parse_qsl, urlencode

from fastapi import Depends, Request, Response

from sqlrepo import CursorPage, Page, QueryObject
from sqlrepo.fastapi.parameters import names_of

__all__ = ["Links", "PageLinks"]

P = TypeVar("P", bound=Page[Any] | CursorPage[Any])

_Change: TypeAlias = Mapping[str, str | None]

_AFTER, _BEFORE = "after", "before"


class PageLinks:
    """Says in an answer's header where the first, the next and the previous page are.

    ``return links(shop.todos.page(query), query)``. A page by position is asked for with the query parameters ``after``
    and ``before``. Addresses are relative to that of the request, so they are right behind every proxy.
    """

    def __init__(self, request: Request, response: Response) -> None:
        self._sent = parse_qsl(request.url.query, keep_blank_values=True)
        self._response = response

    def __call__(self, page: P, query: QueryObject[Any]) -> P:
        """Write the header, and give the page back.

        Args:
            page: what the repository gave.
            query: what it was asked with.
        """
        changes = _by_position(page) if isinstance(page, CursorPage) else _by_offset(page, query)
        links = (f'<{self._address(change)}>; rel="{relation}"' for relation, change in changes)
        if header := ", ".join(links):
            self._response.headers["Link"] = header
        return page

    def _address(self, change: _Change) -> str:
        kept = [(key, value) for key, value in self._sent if key not in change]
        return "?" + urlencode([*kept, *((key, value) for key, value in change.items() if value is not None)])


# A function, because FastAPI 0.121 does not find what the postponed annotations of a class mean.
async def _links(request: Request, response: Response) -> PageLinks:
    return PageLinks(request, response)


#: What writes the header: ``links: Links``.
Links: TypeAlias = Annotated[PageLinks, Depends(_links)]


def _by_position(page: CursorPage[Any]) -> Iterator[tuple[str, _Change]]:
    yield "first", {_AFTER: None, _BEFORE: None}
    if page.next is not None:
        yield "next", {_AFTER: page.next, _BEFORE: None}
    if page.previous is not None:
        yield "prev", {_AFTER: None, _BEFORE: page.previous}


def _by_offset(page: Page[Any], query: QueryObject[Any]) -> Iterator[tuple[str, _Change]]:
    info = type(query).model_fields.get("offset")
    limit: int | None = getattr(query, "limit", None)
    if info is None or not limit:
        return
    key, offset = next(names_of("offset", info)), int(getattr(query, "offset", None) or 0)
    yield "first", {key: None}
    if page.has_next:
        yield "next", {key: str(offset + limit)}
    if offset:
        yield "prev", {key: str(max(0, offset - limit)) if offset > limit else None}
