"""One line in the log for a table that is not portable.

Knows what was logged of which engine. Must not know what is portable.
"""

from __future__ import annotations

from typing import cast
from weakref import WeakKeyDictionary

import sqlalchemy as sa

from sqlrepo.forks import Guard
from sqlrepo.schema import Schema
from sqlrepo.sqlalchemy.auditing.server import UNASKED
from sqlrepo.sqlalchemy.auditing.tables import findings_of
from sqlrepo.sqlalchemy.dialects.dialect import log

__all__ = ["warn_once"]

_GUARD = Guard()
_SEEN: WeakKeyDictionary[sa.Engine, set[tuple[str | None, str]]] = WeakKeyDictionary()


def warn_once(engine: sa.Engine, schema: Schema) -> None:
    """Log which parts of a table are not portable, once per table and engine.

    What depends on the database's own collation is left out: no database was asked.
    """
    with _GUARD.lock:
        seen = _SEEN.setdefault(engine, set())
        if schema.place in seen:
            return
        seen.add(schema.place)
    table = cast(sa.Table, sa.inspect(schema.model).local_table)
    found = [one for one in findings_of(table, engine.dialect, UNASKED) if not one.assumed]
    if found:
        places = dict.fromkeys(one.place or one.what for one in found)  # each once, in their order
        log.warning(
            "%r: table %s is not portable in %s; `python -m sqlrepo audit` tells what happens there, and the remedy",
            engine.url,
            schema.name,
            ", ".join(places),
        )
