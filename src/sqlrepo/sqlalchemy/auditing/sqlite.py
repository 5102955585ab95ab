"""What SQLite does to columns, which it takes for suggestions.

Knows its types and collations. Must not know constraints.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from sqlrepo.sqlalchemy.auditing.finding import Finding
from sqlrepo.sqlalchemy.auditing.kept import Kept

__all__ = ["findings"]

_EXACT_DIGITS = 15  # of a 64-bit float


def findings(kept: Kept) -> Iterator[Finding]:
    """What is wrong with a column there."""
    for rule in (_texts, _numbers, _times, _keys, _json):
        yield from rule(kept)


def _texts(kept: Kept) -> Iterator[Finding]:
    # Nothing declared is BINARY here, whatever the database.
    if kept.is_text and kept.collation.known and not kept.collation.exact:
        yield kept.finding(
            "collation",
            f"{kept.collation.name} takes different texts for equal, and repositories compare with it too: ==, in_ and "
            "orders answer otherwise than on memory.",
            "No collation, which is BINARY; icontains and its family ignore case where that is wanted.",
        )


def _numbers(kept: Kept) -> Iterator[Finding]:
    kind: Any = kept.type
    if kept.word not in ("NUMERIC", "DECIMAL"):
        return
    if kind.precision is None or kind.scale is None:
        yield kept.finding(
            "numeric", "It is kept as a 64-bit float, which rounds.", "types.Exact(<precision>, <scale>)."
        )
    elif kind.precision > _EXACT_DIGITS:
        yield kept.finding(
            "numeric",
            f"It is kept as a 64-bit float, exact to {_EXACT_DIGITS} digits: 9007199254740993 comes back as …992.",
            f"types.Exact({min(kind.precision, 18)}, {kind.scale}), up to 18 digits.",
        )


def _times(kept: Kept) -> Iterator[Finding]:
    if isinstance(kept.outer, sa.Interval):
        yield kept.finding("interval", "It is kept as a date since 1970, which loses range.", "types.Duration().")
    elif isinstance(kept.type, sa.DateTime) and kept.type.timezone:
        yield kept.finding(
            "zone",
            "The zone is not kept. Repositories write UTC and read UTC; other statements read a date without zone.",
            "types.Instant(), which does the same for every statement.",
        )


def _keys(kept: Kept) -> Iterator[Finding]:
    numbered = kept.column is kept.column.table.autoincrement_column
    if numbered and isinstance(kept.type, sa.Integer) and kept.word != "INTEGER":
        yield kept.finding(
            "big-key",
            "SQLite numbers a key only if its type is called INTEGER: a row without one is refused (NOT NULL).",
            "types.BigKey(), BIGINT elsewhere.",
        )


def _json(kept: Kept) -> Iterator[Finding]:
    if isinstance(kept.type, sa.JSON):
        yield kept.finding(
            "json-number",
            "A column called JSON is numeric for SQLite: a document that is nothing but 1.0 comes back as 1.",
            "types.Json(), which is TEXT there.",
        )
