"""Makes calls of one repository.

Knows which calls there are and what they take. Must not know savepoints or units of work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

from sqlrepo.testing.twins.dice import Dice
from sqlrepo.testing.twins.nodes import Make
from sqlrepo.testing.twins.questions import Questions
from sqlrepo.testing.twins.rows import Rows
from sqlrepo.testing.twins.steps import Call, Walk

__all__ = ["Calls"]


class Calls:
    """The calls of one repository.

    Args:
        rows: its values.
        questions: what may be asked of it.
        fresh: whether the database never gives a generated key out again.
    """

    def __init__(self, rows: Rows, questions: Questions, *, fresh: bool) -> None:
        self._fresh = fresh
        self.rows = rows
        self.table = rows.table
        self._questions = questions
        self._targets = self._unique_fields()
        #: What reads, and what writes, each as often as it is listed.
        self.reads: list[Callable[[Dice], Call | Walk]]
        self.reads = [*[self._find] * 5, self._one, self._first, self._counted, self._counted, self._stream]
        self.writes = [*[self._add] * 4, *[self._add_many] * 2, self._update_where, self._delete_where]
        if self.table.key:
            self.reads += [self._get, self._get, self._get_many]
            self.writes += [*[self._patch] * 3, self._delete]
        if self.table.queries:
            self.reads += [self._page, self._page, self._walk, self._walk]
        if self.table.tells_rows:
            self.writes += [*[self._update] * 3, self._save, self._save, self._remove]
        if self._targets:
            self.writes += [self._upsert, self._upsert, self._upsert_many]

    def seed(self, dice: Dice) -> Call:
        """Rows to begin with."""
        made = partial(self.rows.entity, sound=True)
        if dice.once_in(4):
            return self._call("add_many", self._unmixed(dice.several(made, 4, 2)))
        return self._call("add", made(dice))

    def survey(self, dice: Dice) -> list[Call]:
        """All that can be asked of one field, each in the same order."""
        order = self._questions.order(dice)
        return [self._call("find", criterion, order_by=order) for criterion in self._questions.battery(dice)]

    def read(self, dice: Dice) -> Call | Walk:
        """A call that reads."""
        return dice.of(self.reads)(dice)

    def write(self, dice: Dice) -> Call:
        """A call that writes."""
        return dice.of(self.writes)(dice)

    # -- reading

    def _call(self, method: str, *arguments: Any, **options: Any) -> Call:
        return Call(self.table.name, method, arguments, options)

    def _asked(self, dice: Dice) -> tuple[tuple[Any, ...], dict[str, Any], bool]:
        """Criteria, keywords, and whether a query object is among the criteria."""
        kinds = dice.of(("criterion", "criterion", "criterion", "", "query", "both", "equals"))
        given = [self._questions.criterion(dice)] if kinds in ("criterion", "both") else []
        asked = self._questions.query(dice) if kinds in ("query", "both") else None
        given += [] if asked is None else [asked]
        return tuple(given), self._questions.equals(dice) if kinds == "equals" else {}, asked is not None

    def _find(self, dice: Dice) -> Call:
        given, options, queried = self._asked(dice)
        if not queried or dice.once_in(10):  # what is said twice is refused
            options |= {"order_by": self._questions.order(dice)} if dice.once_in(2) else {}
            options |= {"limit": dice.upto(4)} if dice.once_in(3) else {}
            options |= {"offset": dice.upto(3)} if dice.once_in(4) else {}
        if dice.once_in(6):
            options["into"] = self._questions.part(dice)
        return self._call("find", *given, **options)

    def _one(self, dice: Dice) -> Call:
        given, options, _ = self._asked(dice)
        return self._call(dice.of(("one", "one_or_none")), *given, **options)

    def _first(self, dice: Dice) -> Call:
        given, options, queried = self._asked(dice)
        if not queried and dice.once_in(2):
            options["order_by"] = self._questions.order(dice)
        return self._call("first", *given, **options)

    def _counted(self, dice: Dice) -> Call:
        given, options, _ = self._asked(dice)
        return self._call(dice.of(("count", "exists")), *given, **options)

    def _stream(self, dice: Dice) -> Call:
        given, options, queried = self._asked(dice)
        if not queried and dice.once_in(2):
            options["order_by"] = self._questions.order(dice)
        return self._call("stream", *given, **options)

    def _get(self, dice: Dice) -> Call:
        return self._call(dice.of(("get", "get_or_none")), self.rows.key(dice))

    def _get_many(self, dice: Dice) -> Call:
        return self._call("get_many", dice.several(self.rows.key, 4))

    def _page(self, dice: Dice) -> Call:
        query = self._questions.query(dice, limit=True)
        if query is None:
            return self._find(dice)
        return self._call("page", query, with_total=dice.once_in(2))

    def _walk(self, dice: Dice) -> Call | Walk:
        query = self._questions.query(dice, limit=True)
        if query is None:
            return self._find(dice)
        limited = {**query.values, "limit": 1 + dice.upto(2)}
        limited.pop("offset", None)
        moves = dice.several(_move, 5, 1)
        return Walk(self.table.name, Make(query.cls, limited), tuple(moves))

    # -- writing

    def _add(self, dice: Dice) -> Call:
        return self._call("add", self.rows.entity(dice))

    def _add_many(self, dice: Dice) -> Call:
        entities = dice.several(self.rows.entity, 4, 0 if dice.once_in(6) else 2)
        return self._call("add_many", self._unmixed(entities))

    def _unmixed(self, entities: list[Make]) -> list[Make]:
        """A batch in which no row may be numbered like one that is given the key of a deleted one."""
        generated = next((place.name for place in self.table.key if place.column.generated), "")
        if self._fresh or all(entity.values.get(generated) is not None for entity in entities):
            return entities
        return [
            Make(one.cls, {name: None if name == generated else value for name, value in one.values.items()})
            for one in entities
        ]

    def _update(self, dice: Dice) -> Call:
        return self._call("update", self.rows.entity(dice, existing=True))

    def _save(self, dice: Dice) -> Call:
        return self._call("save", self.rows.entity(dice, existing=dice.once_in(2)))

    def _remove(self, dice: Dice) -> Call:
        return self._call("remove", self.rows.entity(dice, existing=True))

    def _upsert(self, dice: Dice) -> Call:
        entity = self.rows.entity(dice, existing=dice.once_in(2))
        return self._call("upsert", entity, **self._target(dice))

    def _upsert_many(self, dice: Dice) -> Call:
        entities = dice.several(lambda dice: self.rows.entity(dice, existing=dice.once_in(2)), 3)
        return self._call("upsert_many", self._unmixed(entities), **self._target(dice))

    def _target(self, dice: Dice) -> Mapping[str, Any]:
        on = dice.of(self._targets)
        options: dict[str, Any] = {"on": on[0] if len(on) == 1 else on}
        if dice.once_in(3):
            free = [place.name for place in self.table.places if place.name not in on and self._free(place.column.name)]
            options["update"] = dice.several(lambda dice: dice.of(free), 2) if free else []
        return options

    def _free(self, column: str) -> bool:
        return column not in (*self.table.schema.key, self.table.schema.version)

    def _patch(self, dice: Dice) -> Call:
        changes = {} if dice.once_in(10) else self.rows.changes(dice, version=True)
        return self._call("patch", self.rows.key(dice), changes)

    def _delete(self, dice: Dice) -> Call:
        return self._call("delete", self.rows.key(dice))

    def _update_where(self, dice: Dice) -> Call:
        return self._set_form(dice, "update_where", set_=self.rows.changes(dice, version=False))

    def _delete_where(self, dice: Dice) -> Call:
        return self._set_form(dice, "delete_where")

    def _set_form(self, dice: Dice, method: str, **options: Any) -> Call:
        if dice.once_in(8):
            return self._call(method, everything=True, **options)
        return self._call(method, self._questions.criterion(dice), **options)

    def _unique_fields(self) -> list[tuple[str, ...]]:
        """What an upsert may agree in."""
        return [fields for _, fields in self.table.uniques if all(name in self.table.by_name for name in fields)]


def _move(dice: Dice) -> Literal["after", "before"]:
    return "before" if dice.once_in(4) else "after"
