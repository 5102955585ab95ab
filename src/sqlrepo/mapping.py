"""Between an entity and its row: which field is which column, and how either becomes the other.

Knows an entity class and a schema, and that they must fit. Must not know queries, units of work or backends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from sqlrepo.criteria import Compare, CompareFields, IsNull, Leaf, Match, OneOf, Ref
from sqlrepo.driver import Row
from sqlrepo.entities import describe
from sqlrepo.errors import InvalidLiteralError, InvalidValueError, MappingError, NotNullViolationError, QueryError, nearest
from sqlrepo.order import Sort
from sqlrepo.schema import Column, Schema
from sqlrepo.values import Kind, WrongValueError

__all__ = ["Fold", "Mapper", "Record"]

T = TypeVar("T")

Fold: TypeAlias = Literal["unicode", "ascii"]


class Record(dict[str, Any]):
    """A row as `to_domain` sees it: values by column name, as items or as attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the row has no column {name!r}{nearest(name, self)}") from None


class Mapper(Generic[T]):
    """How one entity class is kept in one table.

    Args:
        entity: the entity class.
        schema: the table.
        columns: the column of a field where the names differ.
        to_domain: builds an entity where the plain correspondence of fields and columns does not do.
        to_row: the opposite; what it leaves out is left as it is.
        fold: how text is compared without regard to case.

    Raises:
        MappingError: a field has no column, or a column that needs a value has no field.
    """

    def __init__(
        self,
        entity: type[T],
        schema: Schema,
        columns: Mapping[str, str] | None = None,
        to_domain: Callable[[Record], T] | None = None,
        to_row: Callable[[T], Mapping[str, Any]] | None = None,
        fold: Fold = "unicode",
    ) -> None:
        self.entity = entity
        self.schema = schema
        self._to_domain = to_domain
        self._to_row = to_row
        self._fold = fold
        self._renamed = dict(columns or {})
        self._columns = {
            name: schema.by_name[column]
            for name in describe(entity)
            if (column := self._renamed.get(name, name)) in schema.by_name
        }
        self._fields = {column.name: name for name, column in self._columns.items()}
        self._verify()
        kept = set(schema.by_name) if to_domain else {*self._fields, *schema.key}
        #: The columns that are fetched, in schema order.
        self.selected: tuple[str, ...] = tuple(column.name for column in schema.columns if column.name in kept)
        self._build = self._custom if to_domain else self.builder(entity)

    def _verify(self) -> None:
        for name, column in self._renamed.items():
            if name not in describe(self.entity):
                raise MappingError(
                    f"columns of {self.entity.__name__} rename {name!r}, which is no field"
                    f"{nearest(name, describe(self.entity))}"
                )
            if column not in self.schema.by_name:
                raise MappingError(f"table {self.schema.name} has no column {column!r}{nearest(column, self.schema.by_name)}")
        if self._to_domain is None or self._to_row is None:
            for name in describe(self.entity):
                if name not in self._columns:
                    raise MappingError(
                        f"field {name!r} of {self.entity.__name__} has no column in table {self.schema.name}"
                        f"{nearest(name, self.schema.by_name)}; rename it in `columns`, or override to_domain and to_row"
                    )
        if self._to_row is None:
            for column in self.schema.columns:
                if not (column.name in self._fields or column.fills_itself or column.name == self.schema.version):
                    raise MappingError(
                        f"column {column.name!r} of table {self.schema.name} needs a value that "
                        f"{self.entity.__name__} does not have"
                    )

    # -- names

    def column(self, name: str) -> Column:
        """The column of a field, or of one the entity lacks, by its own name.

        Raises:
            QueryError: there is none.
        """
        column = self._columns.get(name) or self.schema.by_name.get(name)
        if column is None:
            raise QueryError(
                f"{self.entity.__name__} has no field with a column {name!r}{nearest(name, self._columns)}"
            )
        return column

    def field(self, column: str) -> str:
        """The field kept in a column; the column's own name where no field is."""
        return self._fields.get(column, column)

    @property
    def has_key(self) -> bool:
        """Whether entities carry their row's key."""
        return all(column in self._fields for column in self.schema.key)

    # -- rows to entities

    def load(self, rows: Sequence[Row]) -> list[T]:
        """Build an entity of each row of the selected columns."""
        return self._build(rows)

    def builder(self, model: type[Any], columns: Iterable[str] | None = None) -> Callable[[Sequence[Row]], list[Any]]:
        """Prepare the building of objects of a class from rows.

        Args:
            model: a Pydantic model or a dataclass whose fields are columns.
            columns: what the rows hold, in their order; the selected columns by default.
        """
        names = tuple(columns or self.selected)
        given = [(self.field(name), index) for index, name in enumerate(names) if self.field(name) in describe(model)]
        zoned = [index for index, name in enumerate(names) if self.schema.by_name[name].type.aware]
        adapter: TypeAdapter[list[Any]] | None = TypeAdapter(list[model]) if issubclass(model, BaseModel) else None

        def build(rows: Sequence[Row]) -> list[Any]:
            if zoned:
                rows = [_in_utc(row, zoned) for row in rows]
            values = [{name: row[index] for name, index in given} for row in rows]
            if adapter is None:
                return [model(**value) for value in values]
            try:
                return adapter.validate_python(values, by_alias=False, by_name=True)
            except ValidationError as error:
                raise self._misfit(model, names, rows, error) from error

        return build

    def _misfit(self, model: type, names: Sequence[str], rows: Sequence[Row], error: ValidationError) -> MappingError:
        first = error.errors(include_url=False, include_input=False)[0]
        index, *place = first["loc"]
        row = rows[int(index)]
        key = [row[names.index(name)] for name in self.schema.key if name in names]
        where = ".".join(map(str, place)) or "the whole row"
        return MappingError(f"row {key} of table {self.schema.name} is no {model.__name__}: {where}: {first['type']}")

    def _custom(self, rows: Sequence[Row]) -> list[T]:
        assert self._to_domain is not None
        zoned = [index for index, name in enumerate(self.selected) if self.schema.by_name[name].type.aware]
        return [
            self._to_domain(Record(zip(self.selected, _in_utc(row, zoned), strict=True))) for row in rows
        ]

    def record(self, record: Mapping[str, Any]) -> T:
        """Build the entity of one row by the plain correspondence of fields and columns."""
        entity: T = self.builder(self.entity)([tuple(record[name] for name in self.selected)])[0]
        return entity

    # -- entities to rows

    def values(self, entity: T) -> dict[str, Any]:
        """Read an entity's fields, by column, unchecked."""
        return {column.name: getattr(entity, name) for name, column in self._columns.items()}

    def dump(self, entity: T) -> dict[str, Any]:
        """Read an entity into checked values, by column.

        Raises:
            InvalidValueError: a value its column cannot hold, or the entity is of another class.
        """
        if not isinstance(entity, self.entity):
            raise InvalidValueError(
                self.entity.__name__, f"expected {self.entity.__name__}, got {type(entity).__name__}"
            )
        values = self._to_row(entity) if self._to_row else self.values(entity)
        return {name: self.checked(self.column(name), value) for name, value in values.items()}

    def checked(self, column: Column, value: Any) -> Any:
        """Check one value against its column.

        Raises:
            InvalidValueError: the column cannot hold it.
        """
        try:
            return column.check(value)
        except WrongValueError as wrong:
            raise InvalidValueError(self.field(column.name), str(wrong)) from None

    def inserted(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Complete the values of a new row: defaults fire, columns that fill themselves are left out.

        None in a column that must have a value lets its default fire; None in one that need not is NULL.

        Raises:
            NotNullViolationError: a column that must have a value has none.
        """
        row = {
            column.name: values[column.name]
            for column in self.schema.columns
            if column.name in values and not column.computed and (values[column.name] is not None or column.nullable)
        }
        for column in self.schema.columns:
            if column.name == self.schema.version:
                row[column.name] = 1
            elif column.name in row or column.computed:
                continue
            elif column.default:
                row[column.name] = self.checked(column, column.default(row))
            elif not column.fills_itself:
                raise NotNullViolationError(None, (self.field(column.name),))
        return {name: row[name] for name in self.schema.by_name if name in row}

    def updated(self, values: Mapping[str, Any], *, explicit: bool) -> dict[str, Any]:
        """Complete the changes of a row that exists: what counts and stamps writes is not the caller's, unless said.

        Args:
            values: the changes, by column.
            explicit: whether the caller named each column, so that its value wins over ``onupdate``.

        Raises:
            NotNullViolationError: a column that must have a value is set to None.
        """
        row = {}
        for column in self.schema.columns:
            name = column.name
            if column.computed or name == self.schema.version:
                continue
            if name in values and (explicit or column.onupdate is None):
                if values[name] is None and not column.nullable:
                    raise NotNullViolationError(None, (self.field(name),))
                row[name] = values[name]
        for column in self.schema.columns:
            if column.onupdate and column.name not in row:
                row[column.name] = self.checked(column, column.onupdate(row))
        return row

    # -- criteria

    def bind(self, leaf: Leaf) -> Leaf:
        """Turn a field of a criterion into its column, and check its literal there.

        Raises:
            QueryError: the criterion is about another class, or its field has no column.
            InvalidLiteralError: the column cannot hold the literal.
        """
        ref = self.bound(leaf.ref)
        if self.schema.by_name[ref.name].type.kind is Kind.OPAQUE and not isinstance(leaf, IsNull):
            raise QueryError(f"{leaf.ref} is kept in a column that can only be asked for NULL")
        match leaf:
            case Compare(_, op, value):
                return Compare(ref, op, self._literal(ref, value))
            case CompareFields(_, op, other):
                return CompareFields(ref, op, self.bound(other))
            case OneOf(_, values):
                return OneOf(ref, tuple(self._literal(ref, value) for value in values))
            case Match(_, kind, text, case):
                return Match(ref, kind, self._literal(ref, text), "exact" if case == "exact" else self._fold)
            case IsNull():
                return IsNull(ref)

    def bound(self, ref: Ref) -> Ref:
        """Turn a field into its column."""
        if not issubclass(self.entity, ref.entity):
            raise QueryError(f"{ref.entity.__name__}.{ref.name} is asked of a repository of {self.entity.__name__}")
        return self.ref(self.column(ref.name).name)

    def ref(self, column: str) -> Ref:
        """A column, as bound criteria and orders name it."""
        return Ref(self.entity, column)

    def bound_sort(self, sort: Sort) -> Sort:
        """Turn the field of a sort key into its column.

        Raises:
            QueryError: the column has no order.
        """
        ref = self.bound(sort.ref)
        if not self.schema.by_name[ref.name].type.kind.ordered:
            raise QueryError(f"{sort.ref} is kept in a column that has no order")
        return Sort(ref, sort.descending)

    def _literal(self, ref: Ref, value: Any) -> Any:
        column = self.schema.by_name[ref.name]
        try:
            return column.type.check(value)
        except WrongValueError as wrong:
            raise InvalidLiteralError(self.field(ref.name), str(wrong)) from None


def _in_utc(row: Row, zoned: Sequence[int]) -> Row:
    """Give aware datetimes back in UTC, also from a database that keeps no zone."""
    values = list(row)
    for index in zoned:
        moment = values[index]
        if moment is not None:
            values[index] = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return tuple(values)
