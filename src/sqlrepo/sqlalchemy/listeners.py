"""What an application's ORM does of its own accord: listeners, validators.

Knows where SQLAlchemy keeps them. Must not know who asks, nor what is made of the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from inspect import getclosurevars, isfunction
from typing import Any

from sqlalchemy.orm import Mapper, Session

__all__ = ["bypassed"]

_SESSION_EVENTS = (
    *(
        "do_orm_execute",
        "before_flush",
        "after_flush",
        "after_flush_postexec",
        "after_bulk_update",
        "after_bulk_delete",
    ),
    *("pending_to_persistent", "persistent_to_deleted", "loaded_as_persistent"),
)
_INSTANCE_EVENTS = ("load", "refresh")
_MAPPER_EVENTS = ("before_insert", "after_insert", "before_update", "after_update", "before_delete", "after_delete")


def bypassed(session: Session, mapper: Mapper[Any]) -> Iterator[str]:
    """What the ORM would do for the application, and rows that pass it by would not see."""
    for name, listener in _heard(session.dispatch, _SESSION_EVENTS):
        yield f"a {name} listener of the session ({_name(listener)})"
    for name, listener in _heard(mapper.dispatch, _MAPPER_EVENTS):
        yield f"a {name} listener ({_name(listener)})"
    for name, listener in _heard(mapper.class_manager.dispatch, _INSTANCE_EVENTS):
        if _is_theirs(listener):
            yield f"a {name} listener ({_name(listener)})"
    yield from (f"@validates({name!r})" for name in mapper.validators)
    for column in mapper.columns.keys() - mapper.validators.keys():
        for _, listener in _heard(mapper.class_manager[column].dispatch, ("set",)):
            if _is_theirs(listener):
                yield f"a set listener of {column} ({_name(listener)})"


def _heard(dispatch: Any, events: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """The listeners to events, as they were given to SQLAlchemy, which wraps some of them."""
    for event_name in events:
        for listener in getattr(dispatch, event_name):
            yield (
                event_name,
                getclosurevars(listener).nonlocals.get("fn", listener) if isfunction(listener) else listener,
            )


def _is_theirs(listener: Any) -> bool:
    """Whether a listener is the application's; SQLAlchemy's extensions have some, and wrap those of others."""
    return not str(getattr(listener, "__module__", "")).startswith("sqlalchemy.")


def _name(listener: Any) -> str:
    return str(getattr(listener, "__qualname__", type(listener).__qualname__))
