"""SQL conditions, read as criteria that memory can evaluate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import sqlalchemy as sa
from sqlalchemy.sql import elements, operators

from sqlrepo.errors import QueryError
from sqlrepo.language.criteria import (
    EVERYTHING,
    NOTHING,
    And,
    Compare,
    CompareFields,
    Criterion,
    IsNull,
    Not,
    OneOf,
    Operator,
    Or,
    Ref,
    map_leaves,
)
from sqlrepo.language.values import Kind, WrongValueError
from sqlrepo.tables.schema import Column, Schema

_MIRRORED: Mapping[str, Operator] = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


class UnreadableError(Exception):
    """A condition cannot be expressed as a criterion."""


def read_criterion(condition: sa.ColumnElement[Any], names: Mapping[str, str], schema: Schema) -> Criterion:
    """Read a condition; ``names`` maps the database's names of columns to those in the mapped class."""
    try:
        return map_leaves(_ConditionReader(names, schema).read(condition), lambda leaf: leaf)
    except QueryError as error:
        raise UnreadableError(str(error)) from error


class _ConditionReader:
    """Converts the nodes of one expression."""

    def __init__(self, names: Mapping[str, str], schema: Schema) -> None:
        self._names = names
        self._schema = schema

    def read(self, node: Any) -> Criterion:
        match node:
            case elements.Grouping():
                return self.read(node.element)
            case sa.True_():
                return EVERYTHING
            case sa.False_():
                return NOTHING
            case elements.BooleanClauseList():
                return self._list(node)
            case elements.UnaryExpression():
                return self._unary(node)
            case elements.BinaryExpression():
                return self._binary(node)
            case sa.ColumnClause():
                return self._flag(node)
            case sa.TextClause():
                return _refuse("it is written as text; write it with columns")
            case _:
                return _refuse_condition(node)

    def _list(self, node: Any) -> Criterion:
        parts = tuple(self.read(part) for part in node.clauses)
        return And(parts) if node.operator is operators.and_ else Or(parts)

    def _unary(self, node: Any) -> Criterion:
        if node.operator in (operators.inv, operators.is_false):
            return Not(self.read(node.element))
        if node.operator is operators.is_true:
            return self.read(node.element)
        return _refuse_condition(node)

    def _flag(self, node: Any) -> Criterion:
        column = self._column(node)
        if column.type.kind is not Kind.BOOLEAN:
            _refuse(f"{node} is not a bool column")
        return Compare(_ref(column), "==", True)

    def _binary(self, node: Any) -> Criterion:
        special: Mapping[Any, Callable[[Any], Criterion]] = {
            operators.is_: self._is_null,
            operators.is_not: lambda given: Not(self._is_null(given)),
            operators.in_op: self._one_of,
            operators.not_in_op: lambda given: Not(self._one_of(given)),
            operators.between_op: self._between,
            operators.not_between_op: lambda given: Not(self._between(given)),
        }
        if node.operator in special:
            return special[node.operator](node)
        compared: Mapping[Any, Operator] = {
            operators.eq: "==",
            operators.ne: "!=",
            operators.lt: "<",
            operators.le: "<=",
            operators.gt: ">",
            operators.ge: ">=",
        }
        if node.operator not in compared:
            _refuse_condition(node)
        return self._compare(node.left, compared[node.operator], node.right)

    def _compare(self, left: Any, op: Operator, right: Any) -> Criterion:
        if not _is_column(left):
            if not _is_column(right):
                _refuse(f"{left} is neither a column nor a value")
            left, op, right = right, _MIRRORED[op], left
        column = self._column(left)
        self._refuse_order(column, op)
        if not _is_column(right):
            return Compare(_ref(column), op, self._value(column, right))
        other = self._column(right)
        if not column.type.compares_with(other.type):
            _refuse(f"{left} and {right} have different column types")
        return CompareFields(_ref(column), op, _ref(other))

    def _is_null(self, node: Any) -> Criterion:
        if not isinstance(node.right, sa.Null):
            _refuse_condition(node)
        return IsNull(_ref(self._column(node.left)))

    def _one_of(self, node: Any) -> Criterion:
        column = self._column(node.left)
        values = node.right.value if isinstance(node.right, sa.BindParameter) else None
        if not isinstance(values, list | tuple) or None in values:
            _refuse(f"{node} lists something other than values")
        found = tuple(self._check_literal(column, value) for value in values)
        return OneOf(_ref(column), found) if found else NOTHING

    def _between(self, node: Any) -> Criterion:
        low, high = node.right.clauses
        return And((self._compare(node.left, ">=", low), self._compare(node.left, "<=", high)))

    def _refuse_order(self, column: Column, op: Operator) -> None:
        # In a query we define the order of text; in a check the column's collation does, which belongs to the server.
        if op not in ("==", "!=") and column.type.kind in (Kind.TEXT, Kind.ENUM, Kind.OPAQUE):
            _refuse(f"the order of {column.name} depends on the database's collation")

    def _column(self, node: Any) -> Column:
        if not _is_column(node) or node.name not in self._names:
            _refuse(f"{node} is not a column of the table")
        return self._schema.by_name[self._names[node.name]]

    def _value(self, column: Column, node: Any) -> Any:
        if isinstance(node, sa.True_ | sa.False_):
            return isinstance(node, sa.True_)
        if not isinstance(node, sa.BindParameter) or node.callable is not None or node.value is None:
            _refuse(f"{node} is neither a column nor a value")
        return self._check_literal(column, node.value)

    def _check_literal(self, column: Column, value: Any) -> Any:
        try:
            return column.type.check(value)
        except WrongValueError as wrong:
            return _refuse(f"{column.name} is compared with an invalid value: {wrong}")


def _is_column(node: Any) -> bool:
    return isinstance(node, sa.ColumnClause) and not node.is_literal


def _ref(column: Column) -> Ref:
    return Ref(object, column.name)


def _refuse(reason: str) -> NoReturn:
    raise UnreadableError(reason)


def _refuse_condition(node: Any) -> NoReturn:
    _refuse(f"{node} is a condition that memory cannot evaluate")
