"""Makes entities: values that the table takes, and now and then one that it refuses.

Knows pools and what entity classes accept. Must not know queries or calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlrepo import MappingError
from sqlrepo.testing.twins.dice import Dice
from sqlrepo.testing.twins.nodes import Fresh, KeyOf, Make, made
from sqlrepo.testing.twins.pools import misfits, values
from sqlrepo.testing.twins.subject import Place, Table

__all__ = ["Rows"]

# How many of a column's values are the usual ones of a program, how much more often they are taken than each of the
# others, and how many choices of usual values there are.
_USUAL = 3
_OFTEN = 10
_SELDOM = 12
_TURNS = 10

# Any row of a program, and more than there ever are.
_MOST_ROWS = 7

_NO_ROW = -1


class Rows:
    """What entities of one table are made of.

    Args:
        table: the table.

    Raises:
        MappingError: no entity can be made of the usual values; the class wants values of its own.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        #: The plainest entity's values; nothing is known of entities that a strategy makes.
        self._base: dict[str, Any] = {}
        if table.entities is None:
            self._base = self._first()
        self.valid: dict[str, list[Any]] = {place.name: self._accepted(place, values) for place in table.places}
        self._bad = {place.name: bad for place in table.places if (bad := self._refused(place))}
        self._turn = 0
        self._weighted = {
            place.name: [self._weigh(place, turn) for turn in range(_TURNS)] for place in table.places if not place.of
        }

    @property
    def plain(self) -> Mapping[str, Any]:
        """The plainest values, by field; none of keys that are generated."""
        return {name: value for name, value in self._base.items() if not self.table.by_name[name].of}

    def turn(self, dice: Dice) -> None:
        """Choose other values for the usual ones, so that any two of a column meet in some programs."""
        self._turn = dice.upto(_TURNS - 1)

    def entity(self, dice: Dice, *, existing: bool = False, sound: bool = False) -> Make:
        """An entity.

        Args:
            dice: what chooses.
            existing: whether it is to be, most often, one whose row is there.
            sound: whether all its values are such that its columns take them.
        """
        if self.table.entities is not None:
            given = dice.given(self.table.name)
            plain = {place.name: getattr(given, place.name) for place in self.table.places}
        else:
            plain = {name: dice.of(weighted[self._turn]) for name, weighted in self._weighted.items()}
            if self._bad and not sound and dice.once_in(_SELDOM):
                spoilt = dice.of(tuple(self._bad))
                plain[spoilt] = dice.of(self._bad[spoilt])
        return Make(self.table.entity, self._whole(plain) | self._keys(dice, existing=existing))

    def changes(self, dice: Dice, *, version: bool) -> dict[str, Any]:
        """Values for some fields of a row, none of them of the key."""
        fixed = {*self.table.schema.key, *(() if version else (self.table.schema.version,))}
        free = [place for place in self.table.places if place.column.name not in fixed and not place.column.computed]
        if not free:
            return {}
        chosen = dice.several(lambda dice: dice.of(free), 2, 1)
        return {place.name: self.value(dice, place) for place in chosen}

    def value(self, dice: Dice, place: Place) -> Any:
        """A value for a field, which its column may refuse."""
        if place.of is not None:
            return self._reference(dice, place)
        if self.table.entities is not None:
            return self._sample(dice, place)
        bad = self._bad.get(place.name) if dice.once_in(_SELDOM) else None
        return dice.of(bad or self._weighted[place.name][self._turn])

    def key(self, dice: Dice) -> Any:
        """A key, most often of a row that is there."""
        index = dice.upto(_MOST_ROWS)
        otherwise = tuple(_NO_ROW if place.of else self._sample(dice, place) for place in self.table.key)
        whole: Any = otherwise[0] if len(otherwise) == 1 else otherwise
        if self.table.generated is None and dice.once_in(4):
            return whole
        return KeyOf(self.table.name, index, None, whole)

    def literal(self, dice: Dice, place: Place) -> Any:
        """A value that a query asks for."""
        if place.of is not None:
            return _NO_ROW if dice.once_in(10) else self._key_of(dice, place, _NO_ROW)
        return self._sample(dice, place)

    def _sample(self, dice: Dice, place: Place) -> Any:
        """A value that entities have in a field."""
        if self.table.entities is not None:
            return getattr(dice.given(self.table.name), place.name)
        known = [value for value in self.valid[place.name] if value is not None] or values(place.column.type)
        return dice.of(_usual(known, self._turn) * 3 + known)

    def refused(self, place: Place) -> list[Any]:
        """Values a field cannot be asked for."""
        return misfits(place.column.type)

    # -- keys and references

    def _keys(self, dice: Dice, *, existing: bool) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for place in self.table.places:
            if place.of == self.table.name and place.column.generated:
                found[place.name] = self._own(dice, place, existing=existing)
            elif place.of is not None:
                found[place.name] = self._reference(dice, place)
        if existing and self.table.generated is None and self.table.key and not dice.once_in(4):
            index = dice.upto(_MOST_ROWS)
            for part, place in enumerate(self.table.key):
                otherwise = found.get(place.name, self._sample(dice, place))
                found[place.name] = KeyOf(self.table.name, index, part, otherwise)
        return found

    def _own(self, dice: Dice, place: Place, *, existing: bool) -> Any:
        """The value of a generated key: none, one that is taken, one that nobody has."""
        missing = None if self._takes(place.name, None) else _NO_ROW
        if existing and not dice.once_in(10):
            return self._key_of(dice, place, missing)
        if not dice.once_in(4) and missing is None:
            return None
        return self._key_of(dice, place, missing) if dice.once_in(3) else Fresh(self.table.name, missing and 1)

    def _reference(self, dice: Dice, place: Place) -> Any:
        if dice.once_in(10):  # a row that is not there
            return _NO_ROW
        if dice.once_in(4) and self._takes(place.name, None):
            return None
        return self._key_of(dice, place, None if self._takes(place.name, None) else _NO_ROW)

    def _key_of(self, dice: Dice, place: Place, otherwise: Any) -> KeyOf:
        return KeyOf(place.of or self.table.name, dice.upto(_MOST_ROWS), self._part(place), otherwise)

    def _part(self, place: Place) -> int:
        """Where in the key of the row referred to the generated column stands; keys of several are rare."""
        return self.table.generated or 0 if place.of == self.table.name and place.column.generated else 0

    # -- what the entity's class accepts

    def _first(self) -> dict[str, Any]:
        """The plainest entity that can be made."""
        chosen: dict[str, Any] = {}
        for place in self.table.places:
            found = [1] if place.of else [value for value in _candidates(place) if _alone(place, value)]
            if not found and not place.spec.optional:
                raise self._wants(place.name)
            chosen[place.name] = found[0] if found else None
        try:
            made(self.table.entity, chosen)
        except (TypeError, ValueError) as error:
            raise self._wants(f"all fields together ({type(error).__name__})") from error
        return chosen

    def _wants(self, what: str) -> MappingError:
        name = self.table.name
        return MappingError(
            f"no {self.table.entity.__name__} can be made of the usual values because of {what}; "
            f"give a strategy: entities = {{{name!r}: st.builds({self.table.entity.__name__}, ...)}}"
        )

    def _accepted(self, place: Place, candidates: Callable[[Any], list[Any]]) -> list[Any]:
        if place.of is not None:
            return []
        given = candidates(place.column.type)
        if candidates is values:
            given = [*_candidates(place), *([None] if self._takes(place.name, None) else [])]
        return [value for value in given if self._takes(place.name, value)]

    def _takes(self, name: str, value: Any) -> bool:
        """Whether an entity can be made with a value of one field."""
        if not self._base:
            return value is not None or bool(self.table.by_name[name].spec.optional)
        try:
            made(self.table.entity, {**self._base, name: value})
        except (TypeError, ValueError):
            return False
        return True

    def _whole(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """An entity's values that go together; those that its class refuses beside the others are left out."""
        if not self._base:
            return dict(chosen)
        whole = dict(self._base)
        try:
            made(self.table.entity, {**whole, **chosen})
        except (TypeError, ValueError):
            for name, value in chosen.items():
                try:
                    made(self.table.entity, {**whole, name: value})
                except (TypeError, ValueError):
                    continue
                whole[name] = value
            return whole
        return {**whole, **chosen}

    def _weigh(self, place: Place, turn: int) -> list[Any]:
        """A field's values, each as often as it is to come."""
        valid = self.valid[place.name]
        if place.column.name == self.table.schema.version:
            return [None, 1, 2, 3] if None in valid else [1, 2, 3]
        plain = [value for value in valid if value is not None]
        times = _USUAL * _OFTEN // 2 if place.column.nullable else 1 if place.column.fills_itself else 0
        return [*(_usual(plain, turn) * _OFTEN), *plain, *([None] * times if None in valid else [])] or [None]

    def _refused(self, place: Place) -> list[Any]:
        """Values that the entity's class takes and the table does not."""
        if place.of is not None:
            return []
        missing = [None] * (not place.column.fills_itself and self._takes(place.name, None))
        return [*missing, *self._accepted(place, misfits)]


def _usual(values: list[Any], turn: int) -> list[Any]:
    """The usual ones of some values."""
    return [values[(turn * _USUAL + index) % len(values)] for index in range(min(_USUAL, len(values)))]


def _candidates(place: Place) -> list[Any]:
    """The values to try a field with: its column's, and the members of an enumeration that the class names."""
    members: list[Any] = list(getattr(place.spec.type.python, "__members__", {}).values())
    return [*members, *values(place.column.type)]


def _alone(place: Place, value: Any) -> bool:
    """Whether the entity's class takes a value of a field, as far as the field alone tells."""
    try:
        place.spec.accept(value)
    except ValueError:
        return False
    return True
