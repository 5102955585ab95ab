"""SQL conditions, read as criteria that memory can evaluate."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

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
from sqlrepo.language.values import JSON_FORM, Kind, ValueType, WrongValueError
from sqlrepo.tables.defaults import BARE, parse_bare, parse_cast, parse_literal
from sqlrepo.tables.schema import Schema

_MIRRORED: Mapping[str, Operator] = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


class UnreadableError(Exception):
    """A condition cannot be expressed as a criterion."""


def read_criterion(condition: Any, names: Mapping[str, str], schema: Schema) -> Criterion:
    """Read a condition; ``names`` maps the database's names of columns to those in the mapped class."""
    try:
        return map_leaves(_ConditionReader(names, schema).read(condition), lambda leaf: leaf)
    except QueryError as error:
        raise UnreadableError(str(error)) from error


def read_part(part: Any, names: Mapping[str, str], schema: Schema) -> Ref:
    """Read a part of an index: a column, or a function of one."""
    if isinstance(part, sa.TextClause):
        part = parse(part.text)
    while isinstance(part, elements.Grouping | elements.UnaryExpression):
        part = part.element  # its order does not matter
    return _ConditionReader(names, schema).side(part).ref


class _Side(NamedTuple):
    """One side of a comparison: a column, or a function of one."""

    ref: Ref
    type: ValueType


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
                return self.read(parse(node.text))
            case sa.Function() if node.name == "json_valid":
                return self._json(node)
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
        column = self.side(node)
        if column.type.kind is not Kind.BOOLEAN:
            _refuse(f"{node} is not a bool column")
        return Compare(column.ref, "==", True)

    def _json(self, node: Any) -> Criterion:
        (given,) = node.clauses
        column = self.side(given)
        if column.type.form != JSON_FORM:
            _refuse(f"{column.ref} may hold any text; only a JSON column is always valid")
        return EVERYTHING

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
        if not _is_side(left):
            if not _is_side(right):
                _refuse(f"{left} is neither a column nor a value")
            left, op, right = right, _MIRRORED[op], left
        column = self.side(left)
        self._refuse_order(column, op)
        if not _is_side(right):
            return Compare(column.ref, op, self._value(column, right))
        other = self.side(right)
        if not column.type.compares_with(other.type):
            _refuse(f"{left} and {right} have different column types")
        return CompareFields(column.ref, op, other.ref)

    def _is_null(self, node: Any) -> Criterion:
        if not isinstance(node.right, sa.Null):
            _refuse_condition(node)
        return IsNull(Ref(object, self.side(node.left).ref.name))

    def _one_of(self, node: Any) -> Criterion:
        column = self.side(node.left)
        values = node.right.value if isinstance(node.right, sa.BindParameter) else None
        if not isinstance(values, list | tuple) or None in values:
            _refuse(f"{node} lists something other than values")
        self._refuse_order(column, "==")
        found = tuple(self._check_literal(column, value) for value in values)
        return OneOf(column.ref, found) if found else NOTHING

    def _between(self, node: Any) -> Criterion:
        low, high = node.right.clauses
        return And((self._compare(node.left, ">=", low), self._compare(node.left, "<=", high)))

    def _refuse_order(self, column: _Side, op: Operator) -> None:
        # In a query we define the order of text; in a check the column's collation does, which belongs to the server.
        if op not in ("==", "!=") and column.type.kind in (Kind.TEXT, Kind.ENUM, Kind.OPAQUE):
            _refuse(f"the order of {column.ref} depends on the database's collation")
        if column.type.collation:
            _refuse(f"{column.ref} is compared by the collation {column.type.collation}")

    def side(self, node: Any) -> _Side:
        """Read a column, or a function of one."""
        if isinstance(node, elements.Grouping):
            return self.side(node.element)
        if isinstance(node, sa.Cast):
            return self._cast(node)
        if isinstance(node, sa.Function) and node.name in _FUNCTIONS and len(node.clauses) == 1:
            return self._function(node)
        if not _is_column(node) or (name := self._find(node.name)) is None:
            _refuse(f"{node} is not a column of the table")
        return _Side(Ref(object, name), self._schema.by_name[name].type)

    def _find(self, name: str) -> str | None:
        alike = {key for given, key in self._names.items() if given.lower() == name.lower()}  # servers fold names
        return self._names.get(name) or (alike.pop() if len(alike) == 1 else None)

    def _function(self, node: Any) -> _Side:
        function, kind, python = _FUNCTIONS[node.name]
        column = self.side(next(iter(node.clauses)))
        if column.type.kind is not Kind.TEXT or column.type.bind is not None or column.ref.function:
            _refuse(f"{node} is not a function of a text column")
        if function == "octet_length" and column.type.padded:
            _refuse(f"{node} counts blanks on PostgreSQL")
        collation = column.type.collation if kind is Kind.TEXT else ""
        return _Side(Ref(object, column.ref.name, function), ValueType(kind, python, collation=collation))

    def _cast(self, node: Any) -> _Side:
        column = self.side(node.clause)
        if column.type.bind is not None or column.type.kind not in _HARMLESS_CASTS.get(type(node.type), ()):
            _refuse(f"{column.ref} is cast to another type")
        return column

    def _value(self, column: _Side, node: Any) -> Any:
        if isinstance(node, sa.True_ | sa.False_):
            return isinstance(node, sa.True_)
        if not isinstance(node, sa.BindParameter) or node.callable is not None or node.value is None:
            _refuse(f"{node} is neither a column nor a value")
        return self._check_literal(column, node.value)

    def _check_literal(self, column: _Side, value: Any) -> Any:
        if column.ref.function and isinstance(value, str | Written) and not str(value).isascii():
            _refuse(f"whether {column.ref} changes letters beyond A to Z depends on the database's locale")
        try:
            return value.read(column.type) if isinstance(value, Written) else column.type.check(value)
        except WrongValueError as wrong:
            return _refuse(f"{column.ref} is compared with an invalid value: {wrong}")


# By the names of databases: the function, and the kind of its result. MariaDB's length() counts bytes.
_FUNCTIONS: Mapping[str, tuple[str, Kind, type]] = {
    "lower": ("lower", Kind.TEXT, str),
    "upper": ("upper", Kind.TEXT, str),
    "length": ("length", Kind.INTEGER, int),
    "char_length": ("length", Kind.INTEGER, int),
    "octet_length": ("octet_length", Kind.INTEGER, int),
}
_HARMLESS_CASTS: Mapping[type, tuple[Kind, ...]] = {
    sa.Text: (Kind.TEXT,),
    sa.Numeric: (Kind.INTEGER, Kind.DECIMAL),
    sa.Integer: (Kind.INTEGER,),
    sa.Date: (Kind.DATE,),
}


def _is_side(node: Any) -> bool:
    if isinstance(node, elements.Grouping):
        return _is_side(node.element)
    return _is_column(node) or isinstance(node, sa.Cast | sa.Function)


def _is_column(node: Any) -> bool:
    return isinstance(node, sa.ColumnClause) and not node.is_literal


def _refuse(reason: str) -> NoReturn:
    raise UnreadableError(reason)


def _refuse_condition(node: Any) -> NoReturn:
    _refuse(f"{node} is a condition that memory cannot evaluate")


# -- conditions written as text


@dataclass(frozen=True, slots=True)
class Written:
    """A literal in SQL text."""

    text: str
    quoted: bool
    cast: str = ""  # the type that it is cast to

    def read(self, type_: ValueType) -> Any:
        """Return the value that the literal means in a column."""
        text = self.text.partition(".")[0] if _WHOLE.fullmatch(self.text) and type_.kind is Kind.INTEGER else self.text
        found = None
        if type_.bind is None and (self.quoted or type_.kind in BARE):
            found = parse_bare(text.lower(), type_) if type_.kind is Kind.BOOLEAN else parse_literal(text, type_)
        if found is None and type_.bind is None:
            found = parse_cast(self.text, self.cast, type_)
        if found is None:
            raise WrongValueError("it is no literal of the column's type")
        return type_.load(found.stored)

    def __str__(self) -> str:
        return self.text


_BRACKETS = re.compile(r"(?<!array)\[[a-z_]", re.IGNORECASE)  # around a name, not a list
_WHOLE = re.compile(r"-?\d+\.0*")


def parse(text: str) -> Any:
    """Parse SQL text into an expression of SQLAlchemy; MariaDB quotes names by backquotes, SQLite also by brackets."""
    try:
        import sqlglot
        from sqlglot.errors import SqlglotError
    except ImportError:
        _refuse("it is written as text, which needs a parser; pip install sqlglot")
    text = text.replace("\\:", ":")  # as sa.text() escapes colons
    dialect = "mysql" if "`" in text else "sqlite" if _BRACKETS.search(text) else "postgres"
    for given in (text, f"({text})"):  # older SQLAlchemy reflects `(a) = (b)` without the outer two parentheses
        try:
            node = sqlglot.parse_one(given, read=dialect)
        except SqlglotError:
            continue
        return _translate(node)
    return _refuse("it cannot be parsed")


# The parts of a node that are read; a node with others may mean something else.
_READ = {"this", "expression", "expressions", "low", "high", "negate", "binary", "to", "is_string", "table", "quoted"}
_IGNORED = {"nested", "_type", "value_constructor", "db", "bracket_notation", "original_name"}


def _translate(node: Any) -> Any:
    """Translate a node; newer versions of the parser mark `NOT` of an operator in the node."""
    if unread := {name for name, given in node.args.items() if given} - _READ - _IGNORED:
        _refuse(f"{node.sql()} has a part that memory does not know: {', '.join(sorted(unread))}")
    found = _translate_condition(node)
    return sa.not_(found) if node.args.get("negate") else found


def _translate_condition(node: Any) -> Any:
    from sqlglot import exp

    match node:
        case exp.Paren():
            return _translate(node.this)
        case exp.And() | exp.Or():
            return (sa.and_ if isinstance(node, exp.And) else sa.or_)(_translate(node.left), _translate(node.right))
        case exp.Not():
            return sa.not_(_translate(node.this))
        case exp.Between():
            return _translate(node.this).between(_translate(node.args["low"]), _translate(node.args["high"]))
        case exp.In() if node.expressions:
            return _translate(node.this).in_(_written(node.expressions))
        case exp.Is() if isinstance(node.expression, exp.Null):
            return _translate(node.this).is_(None)
        case exp.Is() if isinstance(node.expression, exp.Boolean) and isinstance(node.this, exp.Column):
            flag = _translate(node.this)
            return sa.and_(flag.is_not(None), flag if node.expression.this else sa.not_(flag))
        case exp.EQ() | exp.NEQ() if _is_null_test(node.left) and _is_null_test(node.right):
            left, right = _translate(node.left), _translate(node.right)
            same = sa.or_(sa.and_(left, right), sa.and_(sa.not_(left), sa.not_(right)))
            return same if isinstance(node, exp.EQ) else sa.not_(same)
        case exp.Binary():
            return _translate_comparison(node)
        case _:
            return _translate_value(node)


def _is_null_test(node: Any) -> bool:
    """Return True for `x IS NULL` or `x IS NOT NULL`, which are never unknown."""
    from sqlglot import exp

    while isinstance(node, exp.Paren | exp.Not):
        node = node.this
    return isinstance(node, exp.Is) and isinstance(node.expression, exp.Null)


def _translate_comparison(node: Any) -> Any:
    from sqlglot import exp

    right = node.expression
    if isinstance(node, exp.EQ) and isinstance(right, exp.Any):
        return _translate(node.left).in_(_written(_elements(right.this)))
    if isinstance(node, exp.NEQ) and right.name.upper() == "ALL" and len(right.expressions) == 1:
        return _translate(node.left).not_in(_written(_elements(right.expressions[0])))
    for kind, compare in (
        (exp.EQ, operators.eq),
        (exp.NEQ, operators.ne),
        (exp.LT, operators.lt),
        (exp.LTE, operators.le),
        (exp.GT, operators.gt),
        (exp.GTE, operators.ge),
    ):
        if type(node) is kind:
            return compare(_translate(node.left), _translate(node.right))
    return _refuse(f"{node.sql()} is a condition that memory cannot evaluate")


def _translate_value(node: Any) -> Any:
    from sqlglot import exp

    names: dict[type[Any], str] = {exp.Upper: "upper", exp.Lower: "lower", exp.Length: "length"}
    if isinstance(node, exp.Column) and isinstance(node.this, exp.Identifier):
        return sa.column(node.name)
    if isinstance(node, exp.Boolean):
        return sa.true() if node.this else sa.false()
    if (written := _literal(node)) is not None:
        return sa.bindparam(None, written, unique=True)
    if isinstance(node, exp.Cast) and not node.to.expressions:
        types = {"TEXT": sa.Text, "VARCHAR": sa.Text, "DECIMAL": sa.Numeric, "INT": sa.Integer, "DATE": sa.Date}
        if (found := types.get(node.to.this.name)) is not None:
            return sa.cast(_translate(node.this), found)
    if type(node) in names:
        return sa.Function("octet_length" if node.args.get("binary") else names[type(node)], _translate(node.this))
    if isinstance(node, exp.Anonymous) and node.name.lower() in ("json_valid", "octet_length"):
        return sa.Function(node.name.lower(), *map(_translate, node.expressions))
    return _refuse(f"{node.sql()} is an expression that memory cannot evaluate")


def _elements(node: Any) -> list[Any]:
    from sqlglot import exp

    while isinstance(node, exp.Paren | exp.Cast):
        node = node.this
    return node.expressions if isinstance(node, exp.Array) else [node]


def _written(nodes: list[Any]) -> list[Written]:
    found = [_literal(node) for node in nodes]
    return [one for one in found if one is not None] if None not in found else _refuse("it lists more than literals")


def _literal(node: Any) -> Written | None:
    from sqlglot import exp

    cast = ""
    while isinstance(node, exp.Paren) or (isinstance(node, exp.Cast) and not node.to.expressions):
        cast = node.to.this.name if isinstance(node, exp.Cast) else cast
        node = node.this
    if isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal) and not node.this.is_string:
        return Written(f"-{node.this.this}", quoted=False)
    return Written(str(node.this), quoted=node.is_string, cast=cast) if isinstance(node, exp.Literal) else None
