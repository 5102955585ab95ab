"""Strategies for calls of one repository.

Knows which calls there are and what they take. Must not know savepoints or units of work.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from sqlrepo.testing.twins.nodes import Make
from sqlrepo.testing.twins.questions import Questions
from sqlrepo.testing.twins.rows import Draw, Rows
from sqlrepo.testing.twins.steps import Call, Walk

__all__ = ["Calls"]


class Calls:
    """The calls of one repository.

    Args:
        rows: its values.
        questions: what may be asked of it.
    """

    def __init__(self, rows: Rows, questions: Questions) -> None:
        self.rows = rows
        self.table = rows.table
        self._questions = questions
        self._targets = self._unique_fields()
        #: What reads, and what writes, each as often as it is listed.
        self.reads = [*[self._find] * 5, self._one, self._first, self._counted, self._counted, self._stream]
        self.writes = [*[self._add] * 4, self._add_many, self._update_where, self._delete_where]
        if self.table.key:
            self.reads += [self._get, self._get, self._get_many]
            self.writes += [*[self._patch] * 3, self._delete]
        if self.table.queries:
            self.reads += [self._page, self._page, self._walk, self._walk]
        if self.table.tells_rows:
            self.writes += [*[self._update] * 3, self._save, self._save, self._remove]
        if self._targets:
            self.writes += [self._upsert, self._upsert, self._upsert_many]

    def seed(self, draw: Draw) -> Call:
        """A row to begin with."""
        return self._add(draw)

    def read(self, draw: Draw) -> Call | Walk:
        """A call that reads."""
        return draw(st.sampled_from(self.reads))(draw)

    def write(self, draw: Draw) -> Call:
        """A call that writes."""
        return draw(st.sampled_from(self.writes))(draw)

    # -- reading

    def _call(self, method: str, *arguments: Any, **options: Any) -> Call:
        return Call(self.table.name, method, arguments, options)

    def _asked(self, draw: Draw, *, query: bool = True) -> tuple[tuple[Any, ...], dict[str, Any], bool]:
        """Criteria, keywords, and whether a query object is among the criteria."""
        choice = draw(st.integers(0, 9))
        given: list[Any] = []
        if choice < 6:  # noqa: PLR2004  # six times of ten
            given.append(self._questions.criterion(draw))
        asked = self._questions.query(draw) if query and choice in (5, 6, 7) else None
        if asked is not None:
            given.append(asked)
        return tuple(given), self._questions.equals(draw) if choice == 8 else {}, asked is not None  # noqa: PLR2004

    def _find(self, draw: Draw) -> Call:
        given, options, queried = self._asked(draw)
        if not queried or draw(st.integers(0, 9)) == 9:  # noqa: PLR2004  # what is said twice is refused
            options |= {"order_by": self._questions.order(draw)} if draw(st.booleans()) else {}
            options |= {"limit": draw(st.integers(0, 4))} if draw(st.integers(0, 2)) == 2 else {}  # noqa: PLR2004
            options |= {"offset": draw(st.integers(0, 3))} if draw(st.integers(0, 3)) == 3 else {}  # noqa: PLR2004
        if draw(st.integers(0, 5)) == 5:  # noqa: PLR2004
            options["into"] = self._questions.part(draw)
        return self._call("find", *given, **options)

    def _one(self, draw: Draw) -> Call:
        given, options, _ = self._asked(draw)
        return self._call(draw(st.sampled_from(("one", "one_or_none"))), *given, **options)

    def _first(self, draw: Draw) -> Call:
        given, options, queried = self._asked(draw)
        if not queried and draw(st.booleans()):
            options["order_by"] = self._questions.order(draw)
        return self._call("first", *given, **options)

    def _counted(self, draw: Draw) -> Call:
        given, options, _ = self._asked(draw)
        return self._call(draw(st.sampled_from(("count", "exists"))), *given, **options)

    def _stream(self, draw: Draw) -> Call:
        given, options, queried = self._asked(draw)
        if not queried and draw(st.booleans()):
            options["order_by"] = self._questions.order(draw)
        return self._call("stream", *given, **options)

    def _get(self, draw: Draw) -> Call:
        return self._call(draw(st.sampled_from(("get", "get_or_none"))), self.rows.key(draw))

    def _get_many(self, draw: Draw) -> Call:
        return self._call("get_many", [self.rows.key(draw) for _ in range(draw(st.integers(0, 4)))])

    def _page(self, draw: Draw) -> Call:
        query = self._questions.query(draw, limit=True)
        if query is None:
            return self._find(draw)
        return self._call("page", query, with_total=draw(st.booleans()))

    def _walk(self, draw: Draw) -> Call | Walk:
        query = self._questions.query(draw, limit=True)
        if query is None:
            return self._find(draw)
        limited = {**query.values, "limit": draw(st.integers(1, 3))}
        limited.pop("offset", None)
        moves = draw(st.lists(st.sampled_from(("after", "after", "after", "before")), min_size=1, max_size=5))
        return Walk(self.table.name, Make(query.cls, limited), tuple(moves))

    # -- writing

    def _add(self, draw: Draw) -> Call:
        return self._call("add", self.rows.entity(draw))

    def _add_many(self, draw: Draw) -> Call:
        return self._call("add_many", [self.rows.entity(draw) for _ in range(draw(st.integers(0, 3)))])

    def _update(self, draw: Draw) -> Call:
        return self._call("update", self.rows.entity(draw, existing=True))

    def _save(self, draw: Draw) -> Call:
        return self._call("save", self.rows.entity(draw, existing=draw(st.booleans())))

    def _remove(self, draw: Draw) -> Call:
        return self._call("remove", self.rows.entity(draw, existing=True))

    def _upsert(self, draw: Draw) -> Call:
        entity = self.rows.entity(draw, existing=draw(st.booleans()))
        return self._call("upsert", entity, **self._target(draw))

    def _upsert_many(self, draw: Draw) -> Call:
        entities = [self.rows.entity(draw, existing=draw(st.booleans())) for _ in range(draw(st.integers(0, 3)))]
        return self._call("upsert_many", entities, **self._target(draw))

    def _target(self, draw: Draw) -> Mapping[str, Any]:
        on = draw(st.sampled_from(self._targets))
        options: dict[str, Any] = {"on": on[0] if len(on) == 1 else on}
        if draw(st.integers(0, 2)) == 2:  # noqa: PLR2004
            free = [place.name for place in self.table.places if place.name not in on and self._free(place.column.name)]
            options["update"] = draw(st.lists(st.sampled_from(free), max_size=2, unique=True)) if free else []
        return options

    def _free(self, column: str) -> bool:
        return column not in (*self.table.schema.key, self.table.schema.version)

    def _patch(self, draw: Draw) -> Call:
        changes = self.rows.changes(draw, version=True) if draw(st.integers(0, 9)) else {}
        return self._call("patch", self.rows.key(draw), changes)

    def _delete(self, draw: Draw) -> Call:
        return self._call("delete", self.rows.key(draw))

    def _update_where(self, draw: Draw) -> Call:
        return self._set_form(draw, "update_where", set_=self.rows.changes(draw, version=False))

    def _delete_where(self, draw: Draw) -> Call:
        return self._set_form(draw, "delete_where")

    def _set_form(self, draw: Draw, method: str, **options: Any) -> Call:
        if draw(st.integers(0, 7)) == 7:  # noqa: PLR2004
            return self._call(method, everything=True, **options)
        return self._call(method, self._questions.criterion(draw), **options)

    def _unique_fields(self) -> list[tuple[str, ...]]:
        """What an upsert may agree in."""
        return [fields for _, fields in self.table.uniques if all(name in self.table.by_name for name in fields)]


