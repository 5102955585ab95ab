"""What MariaDB does to columns that do not say all that it needs to be told.

Knows its types and collations. Must not know constraints.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from sqlrepo.sqlalchemy.auditing.finding import Finding
from sqlrepo.sqlalchemy.auditing.kept import Kept

__all__ = ["findings"]

# How much its text and binary types of no declared length hold.
_SMALL: Mapping[str, str] = {
    "TINYTEXT": "255 bytes",
    "TEXT": "65,535 bytes",
    "MEDIUMTEXT": "16 MB",
    "TINYBLOB": "255 bytes",
    "BLOB": "65,535 bytes",
    "MEDIUMBLOB": "16 MB",
}
_NARROW: Mapping[str, str] = {"TINYINT": "8 bits", "MEDIUMINT": "24 bits"}
_DOUBLE_FROM = 25  # digits that FLOAT is asked for


def findings(kept: Kept) -> Iterator[Finding]:
    """What is wrong with a column there."""
    for rule in (_texts, _sizes, _numbers, _times, _others):
        yield from rule(kept)


def _texts(kept: Kept) -> Iterator[Finding]:
    collation = kept.collation
    if isinstance(kept.type, sa.Enum):
        yield from _labels(kept)
    if not kept.is_text:
        return
    if not kept.ddl:
        yield kept.finding(
            "text-length", "MariaDB has no VARCHAR without a length, so the table cannot be made.", _text_remedy(kept)
        )
    if kept.word == "CHAR":
        yield kept.finding("char", "Trailing blanks are gone when the text is read.", _text_remedy(kept))
    if collation.charset not in ("", "utf8mb4"):
        yield kept.finding(
            "charset",
            f"The character set {collation.charset} does not hold all characters; others are refused when they are "
            "written.",
            _text_remedy(kept),
        )
    if not collation.exact:
        yield kept.assumed(kept.finding("collation", _compares(kept), _text_remedy(kept)))


def _compares(kept: Kept) -> str:
    whose = (
        f"Its collation {kept.collation.name} compares otherwise than by code point: case, accents or trailing blanks."
        if kept.collation.known
        else "It has the database's collation, by default one for which 'a', 'A', 'á' and 'a ' are equal."
    )
    return (
        f"{whose} Repositories make comparisons and orders exact in each query; the price is that an index on the "
        "column finds rows but gives no order. Statements of your own compare as the collation does."
    )


def _text_remedy(kept: Kept) -> str:
    length: Any = getattr(kept.type, "length", None)
    if kept.word == "CHAR" or not kept.ddl or length:
        return f"types.Text({length or '<length>'}), which is VARCHAR … COLLATE utf8mb4_nopad_bin."
    return "types.Text(), which is LONGTEXT COLLATE utf8mb4_nopad_bin."


def _labels(kept: Kept) -> Iterator[Finding]:
    kind: Any = kept.type
    if kind.native_enum:
        yield kept.finding(
            "native-enum",
            "ENUM sorts by declaration; repositories sort by text all the same, without an index. Statements of your "
            "own sort otherwise, and a new member needs ALTER TABLE.",
            "types.Member(…), which keeps the name as text.",
        )
    alike = {label.casefold().rstrip() for label in kind.enums}
    if len(alike) < len(kind.enums) and not kept.collation.exact:
        yield kept.assumed(
            kept.finding(
                "enum-labels",
                "Labels that differ in case or trailing blanks only are one label for its collation.",
                "Names that differ in more than that.",
            )
        )


def _sizes(kept: Kept) -> Iterator[Finding]:
    if kept.word in _SMALL and "(" not in kept.ddl:
        text = isinstance(kept.type, sa.String)
        yield kept.finding(
            "short-text" if text else "short-bytes",
            f"It holds {_SMALL[kept.word]} and refuses more, which memory and other databases take.",
            _text_remedy(kept) if text else "types.Bytes(), which is LONGBLOB.",
        )
    if kept.word == "BINARY":
        yield kept.finding(
            "padded-bytes", "Short values come back filled up with zero bytes.", "types.Bytes(<length>), VARBINARY."
        )


def _numbers(kept: Kept) -> Iterator[Finding]:
    kind: Any = kept.type
    if kept.word == "FLOAT" and (kind.precision or 0) < _DOUBLE_FROM:
        yield kept.finding(
            "float32",
            "FLOAT has 32 bits: 1/3 comes back as 0.333333, is not found by ==, and 1e300 is refused.",
            "types.Float64().",
        )
    if kept.word in ("NUMERIC", "DECIMAL") and "(" not in kept.ddl:
        yield kept.finding(
            "numeric", "It is DECIMAL(10, 0): 1.5 becomes 2, without an error.", "types.Exact(<precision>, <scale>)."
        )
    if kept.word in _NARROW or "UNSIGNED" in kept.ddl:
        limits = "takes no negative numbers" if "UNSIGNED" in kept.ddl else f"has {_NARROW[kept.word]}"
        yield kept.finding(
            "integer-range",
            f"It {limits}; a number that does not fit is found by the database alone, not before the statement.",
            "SmallInteger, Integer or BigInteger.",
        )


def _times(kept: Kept) -> Iterator[Finding]:
    if isinstance(kept.outer, sa.Interval):
        yield kept.finding(
            "interval", "It is kept as a date since 1970, which loses range and microseconds.", "types.Duration()."
        )
        return
    if kept.word == "TIMESTAMP":
        yield kept.finding(
            "timestamp",
            "TIMESTAMP ends in 2038 and is converted between the zones of sessions.",
            "types.Instant(), or types.LocalDateTime().",
        )
    if kept.word in ("DATETIME", "TIME", "TIMESTAMP") and getattr(kept.type, "fsp", None) != 6:  # noqa: PLR2004  # digits of a microsecond
        yield kept.finding(
            "microseconds",
            "Microseconds are cut off, so that == does not find what was written.",
            "types.TimeOfDay()." if kept.word == "TIME" else "types.LocalDateTime(), or types.Instant() with a zone.",
        )
    if isinstance(kept.type, sa.DateTime) and kept.type.timezone:
        yield kept.finding(
            "zone",
            "The zone is not kept. Repositories write UTC and read UTC; other statements read a date without zone.",
            "types.Instant(), which does the same for every statement.",
        )


def _others(kept: Kept) -> Iterator[Finding]:
    if kept.word == "UUID" or (isinstance(kept.type, sa.Uuid) and kept.type.native_uuid):
        yield kept.finding(
            "native-uuid",
            "MariaDB's UUID sorts by swapped segments and refuses some values. (SQLAlchemy 2.0 makes CHAR(32) of it "
            "through mysql+…://, 2.1 UUID on MariaDB.)",
            "types.UniqueId().",
        )
