"""What PostgreSQL does to columns that do not say all that it needs to be told.

Knows its types and collations. Must not know constraints.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from sqlrepo.sqlalchemy.auditing.finding import Finding
from sqlrepo.sqlalchemy.auditing.kept import Kept

__all__ = ["findings"]

_ROUNDED = re.compile(r"TIME(STAMP)?\([0-5]\)")
_DOUBLE_FROM = 25  # bits that FLOAT is asked for


def findings(kept: Kept) -> Iterator[Finding]:
    """What is wrong with a column there."""
    for rule in (_texts, _others):
        yield from rule(kept)


def _texts(kept: Kept) -> Iterator[Finding]:
    if not kept.is_text:
        return
    length: Any = getattr(kept.type, "length", None)
    remedy = f'types.Text({length or ""}), which is COLLATE "C".'
    if kept.word == "CHAR":
        yield kept.finding("char", "Short texts come back filled up with blanks.", remedy)
    if kept.merges:
        yield kept.finding(
            "collation",
            f"The collation {kept.collation.name} takes different texts for equal, and repositories compare with it "
            "too: == and in_ answer otherwise than on memory.",
            remedy,
        )
    elif not kept.collation.exact:
        whose = f"the collation {kept.collation.name}" if kept.collation.known else "the database's collation"
        yield kept.assumed(
            kept.finding(
                "collation",
                f'It sorts by {whose}, as a dictionary may. Repositories write COLLATE "C" where order matters, so an '
                "index on the column serves equality but gives no order. Statements of your own sort by the collation.",
                remedy,
            )
        )


def _others(kept: Kept) -> Iterator[Finding]:
    kind: Any = kept.type
    if isinstance(kept.type, sa.Enum) and kept.type.native_enum:
        yield kept.finding(
            "native-enum",
            "The type sorts by declaration; repositories sort by text all the same, without an index. Statements of "
            "your own sort otherwise, and a new member needs ALTER TYPE.",
            "types.Member(…), which keeps the name as text.",
        )
    if kept.word == "REAL" or (kept.word == "FLOAT" and 0 < (kind.precision or 0) < _DOUBLE_FROM):
        yield kept.finding(
            "float32", "It has 32 bits: 1/3 is not found by ==, and 1e300 is refused.", "types.Float64()."
        )
    if _ROUNDED.match(kept.ddl):
        yield kept.finding(
            "microseconds",
            "Seconds are rounded, so that == does not find what was written.",
            "types.TimeOfDay()." if kept.word == "TIME" else "types.LocalDateTime(), or types.Instant().",
        )
