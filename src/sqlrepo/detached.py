"""A mapped class as an entity: its instances are values, which no session keeps.

Knows what a mapped class tells of itself, and how the ORM builds what it has read. Must not know tables beyond that,
and imports SQLAlchemy when such a class is met only. SQLModel's tables are mapped classes too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args, get_origin

from sqlrepo.errors import InvalidValueError

__all__ = ["annotation_of", "builder", "columns_of", "is_mapped", "values_of"]


def is_mapped(cls: type) -> bool:
    """Whether a class has been mapped by now."""
    return hasattr(cls, "__mapper__")


def columns_of(cls: Any) -> dict[str, Any]:
    """The columns of its table, by attribute; relationships and computed attributes are no fields."""
    mapper = cls.__mapper__
    return {
        name: column for name, column in mapper.columns.items() if getattr(column, "table", None) is mapper.local_table
    }


def annotation_of(column: Any, annotation: Any) -> Any:
    """What an attribute holds: as ``Mapped[...]`` says, or else as the column's type does."""
    if getattr(get_origin(annotation), "__module__", "").startswith("sqlalchemy."):
        (annotation,) = get_args(annotation)
    if annotation is not None:
        return annotation
    try:
        python = column.type.python_type
    except NotImplementedError:
        return Any
    return python | None if column.nullable else python


def values_of(entity: Any, names: Iterable[str]) -> dict[str, Any]:
    """Read what is set of an instance, whatever its state is.

    Raises:
        InvalidValueError: it was read from a database, but for this attribute.
    """
    known = vars(entity)
    stored = entity._sa_instance_state.key is not None
    values = {}
    for name in names:
        if name in known:
            values[name] = known[name]
        elif stored:
            raise InvalidValueError(name, "is not loaded; refresh the instance in its session first")
    return values


def builder(cls: Any) -> Callable[[Mapping[str, Any]], Any]:
    """Prepare the building of detached instances: unloaded attributes raise, and a session's ``add`` attaches them."""
    from sqlalchemy.orm import make_transient_to_detached
    from sqlalchemy.orm.attributes import set_committed_value

    manager = cls.__mapper__.class_manager

    def build(values: Mapping[str, Any]) -> Any:
        entity = manager.new_instance()
        for name, value in values.items():
            set_committed_value(entity, name, value)
        make_transient_to_detached(entity)
        manager.dispatch.load(entity._sa_instance_state, None)  # @reconstructor, and what keeps mutable values
        return entity

    return build
