"""What a table demands of each of its rows alone, and what it fills in by itself.

Knows checks, and what stands in for a database's own computations. Must not know other rows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from sqlrepo.criteria import Not
from sqlrepo.driver import Condition, Row
from sqlrepo.errors import CheckViolationError, InvalidValueError, NotNullViolationError
from sqlrepo.memory.compiler import compiled
from sqlrepo.predicate import parametrized
from sqlrepo.schema import Check, Column, Constant, OfRow, Schema
from sqlrepo.values import WrongValueError

__all__ = ["Rules"]


class Rules:
    """The rules of one table."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._violations = [(check, _violation(schema, check)) for check in schema.checks]
        filled = [column for column in schema.columns if column.filled_by_database]
        self._computed = [column for column in filled if column.computed]
        self._inserted = [column for column in filled if column.server_default and not column.computed]
        self._updated = [column for column in filled if column.server_onupdate and not column.computed]

    def check(self, row: Row) -> None:
        """Ask the checks of a row.

        Raises:
            CheckViolationError: one is false of it.
        """
        for check, violated in self._violations:
            if violated(row):
                raise CheckViolationError(check.name, table=self._schema.name)

    def inserted(self, row: Row, given: Collection[str]) -> Row:
        """Fill in what a new row leaves to the database."""
        return self._filled(row, self._inserted, given)

    def updated(self, row: Row, given: Collection[str]) -> Row:
        """Fill in what the database changes by itself in a row that is changed."""
        return self._filled(row, self._updated, given)

    def computed(self, row: Row) -> Row:
        """Compute what each write computes, and nothing else."""
        return self._filled(row, (), ())

    def _filled(self, row: Row, columns: Sequence[Column], given: Collection[str]) -> Row:
        if not columns and not self._computed:
            return row
        filled = list(row)
        for column in (*(column for column in columns if column.name not in given), *self._computed):
            filled[self._schema.positions[column.name]] = self._value(column, tuple(filled))
        return tuple(filled)

    def _value(self, column: Column, row: Row) -> Any:
        if isinstance(column.stands_in, Constant):
            return column.stands_in.stored
        assert column.stands_in is not None
        value = column.stands_in(_named(self._schema, row))
        if value is None and not column.nullable:
            raise NotNullViolationError(None, (column.name,), table=self._schema.name)
        try:
            return column.type.store(column.check(value))
        except WrongValueError as wrong:
            raise InvalidValueError(column.name, str(wrong)) from wrong


def _violation(schema: Schema, check: Check) -> Callable[[Row], bool]:
    """What tells that a check is false of a row; where it is true, or unknown, the row passes."""
    if check.test is not None:
        return partial(_denied, check.test, schema)
    assert check.criterion is not None
    shape, literals = parametrized(Not(check.criterion))
    denied = compiled(schema, shape)
    params, test = denied.params(Condition(shape, literals)), denied.test
    return lambda row: test(row, params)


def _denied(test: OfRow, schema: Schema, row: Row) -> bool:
    answer = test(_named(schema, row))
    return answer is not None and not answer


def _named(schema: Schema, row: Row) -> Mapping[str, Any]:
    return dict(_loaded(schema, row))


def _loaded(schema: Schema, row: Row) -> Iterator[tuple[str, Any]]:
    for column, value in zip(schema.columns, row, strict=True):
        yield column.name, column.type.load(value)
