"""Plain entities, repositories and rows for tables that nobody wrote by hand: reflected ones, and mapped classes."""

import warnings
from dataclasses import asdict, field, make_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from types import new_class
from uuid import UUID

import sqlalchemy as sa

from sqlrepo import BaseRepository, BaseUnitOfWork, QueryError, UnsupportedError
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.tables.reflection import left_out, schema_of
from sqlrepo.tables.schema import RowFunction

SAMPLES = {
    int: 1, str: "A", bool: True, float: 0.5, Decimal: Decimal("7.50"), date: date(2025, 3, 1), time: time(9),
    datetime: datetime.fromisoformat("2025-03-01"), bytes: b"\x00\xff", UUID: UUID(int=7), object: {"a": [1, None]},
}  # fmt: skip


def reflected(url, script, schemas=(None,)):
    """The tables that a script makes in a database, read back as an application would read them."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    text = (Path(__file__).parent / script).read_text()
    with engine.begin() as connection:
        for statement in [text] if engine.dialect.name == "postgresql" else text.split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)
    metadata = sa.MetaData()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sa.exc.SAWarning)  # about types and indexes that SQLAlchemy does not know
        for schema in schemas:
            metadata.reflect(engine, schema=schema)
    return metadata, list(metadata.sorted_tables)


def python_type(column):
    try:
        found = getattr(column.type, "data_type", column.type).python_type  # a domain's type is another's
    except NotImplementedError:
        found = object
    return object if found in (dict, list) else found


def repository_of(name, entity, key, model):
    base = BaseRepository[entity, key]
    return new_class(name, (base,), exec_body=lambda body: body.update(model=model))


class Shape:
    """A table, an entity with a field for each column that memory keeps, and a repository of these entities."""

    def __init__(self, model, values):
        self.model = model
        self.table = model if isinstance(model, sa.Table) else model.__table__
        self.name, self.values = self.table.name, values
        self.schema = schema_of(model)
        unkept = {one.column for one in left_out(self.table)}
        unkept |= {one.name for one in self.schema.columns if one.computed and one.memory_default is None}
        self.columns = [one for one in self.table.columns if one.name not in unkept]
        required = [one for one in self.columns if not self.schema.by_name[one.name].fills_itself]
        optional = [one for one in self.columns if self.schema.by_name[one.name].fills_itself]
        name = f"Entity_{self.name}".replace(" ", "_")
        self.entity = make_dataclass(
            name,
            [(one.name, python_type(one)) for one in required]
            + [(one.name, python_type(one) | None, field(default=None)) for one in optional],
        )
        kinds = [python_type(one) for one in self.table.primary_key.columns]
        key = kinds[0] if len(kinds) == 1 else tuple[(*kinds,)] if kinds else int
        self.repository = repository_of(name + "s", self.entity, key, model)

    def refusal(self):
        """What memory says of the table if it does not keep it."""
        try:
            with self.repository(InMemoryDatabase()) as rows:
                rows.count()
        except UnsupportedError as refused:
            return str(refused)
        return None

    def row(self, stored):
        """A row that leaves out what the database fills in, and refers to the rows that are stored already."""
        return self.entity(**{one.name: self._value(one, stored) for one in self.columns if not self._is_filled(one)})

    def _is_filled(self, column):
        known = self.schema.by_name[column.name]
        return (
            f"{self.name}.{column.name}" not in self.values
            and (known.generated or known.computed or known.server_default or known.default is not None)
            and not (column.primary_key and python_type(column) is UUID)
        )

    def _value(self, column, stored):
        if (place := f"{self.name}.{column.name}") in self.values:
            return self.values[place]
        for reference in column.foreign_keys:
            target = reference.column
            return getattr(stored[target.table.fullname], target.name) if target.table.fullname in stored else None
        length = getattr(getattr(column.type, "data_type", column.type), "length", None)
        found = SAMPLES[python_type(column)]
        if isinstance(column.type, sa.CHAR) and length:
            found = found * length
        if isinstance(column.type, sa.Enum):
            found = next(iter(column.type.enums))
        zoned = getattr(column.type, "timezone", False) and isinstance(found, datetime)
        return found.astimezone() if zoned else found

    def is_made(self, name):
        """True for a value that is made at the moment of writing."""
        column, known = self.table.columns[name], self.schema.by_name[name]
        return isinstance(known.memory_default, RowFunction) or getattr(column.default, "is_callable", False)

    def comparable(self, entity):
        return {name: type(value) if self.is_made(name) else value for name, value in asdict(entity).items()}


def outcomes(shapes, source):
    """What each table answers: the row added, the same read by its key, all rows, and how many each value finds."""
    names = {shape: f"rows_{number}" for number, shape in enumerate(shapes)}
    declared = {name: shape.repository for shape, name in names.items()}
    unit_class = type("Everything", (BaseUnitOfWork,), {"__annotations__": declared})
    stored, found = {}, {}
    with unit_class(source) as unit:
        for shape, name in names.items():
            rows = getattr(unit, name)
            added = stored[shape.table.fullname] = rows.add(shape.row(stored))
            found[shape.table.fullname] = [shape.comparable(added), *answers(shape, rows, added)]
    return found


def answers(shape, rows, added):
    values = asdict(added)
    if key := tuple(values[one.name] for one in shape.table.primary_key.columns):
        yield shape.comparable(rows.get(key[0] if len(key) == 1 else key))
    yield [shape.comparable(one) for one in rows.find()]
    for name, value in values.items():
        if value is not None and not shape.is_made(name):
            try:
                yield name, rows.count(**{name: value})
            except QueryError as error:  # about a column without equality
                yield name, type(error)
