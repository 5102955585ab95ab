"""Values that are easily got wrong, by column of a specimen."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

from tests.units.domain import Colour

# Cases, accents, wildcards, quotes, blanks; characters with odd lower cases; the edges of surrogates and of Unicode.
TEXTS = [
    None, "", " ", "a", "A", "a ", " a", "b", "ab", "aB", "AB", "abc", "%", "_", "a%", "a_", "a%b", "a_b", "axb",
    "\\", "\\%", "*", "a*", "?", "[a]", "'", '"', "\t", "\n", "\x01", "\x7f", "0", "00", "ss", "SS", "i", "I", "K", "k",
    "é", "É", "e\u0301", "É%", "İ", "\u0131", "i\u0307", "ß", "ẞ", "\u03c3", "ς", "Σ", "\u0391Σ",
    "\u03b1ς", "ǅ", "ǆ", "Ǆ", "\u212a",
    "\ud7ff", "\ud7ffa", "\ue000", "\uffff", "\U00010000", "😀", "😀a", "😀😀", "😁",
    "\U0010ffff", "\U0010ffffa", "a\U0010ffff", "a\U0010ffffb",
]  # fmt: skip

OTHERS = {
    "number": [None, 0, 1, -1, 2, 2**31 - 1, -(2**31)],
    "big": [None, 0, 2**53, 2**53 + 1, -(2**63), 2**63 - 1],
    "flag": [None, True, False],
    "colour": [None, *Colour],
    "uid": [None, *(UUID(int=number) for number in (0, 1, 2**127, 2**128 - 1, 0x00112233445566778899AABBCCDDEEFF))],
    "amount": [None, *map(Decimal, ["0.00", "0.01", "-0.01", "9.99", "10.00", "99999999.99", "-99999999.99"])],
    "ratio": [None, 0.0, 0.1, 1 / 3, -1.5, 1e308, 5e-324],
    "day": [None, date.min, date(1999, 12, 31), date(2000, 1, 1), date(2024, 2, 29), date.max],
    "clock": [None, time.min, time(0, 0, 0, 1), time(12), time(12, 0, 1), time.max],
    "local": [None, *(datetime.combine(date(2024, 2, 29), clock) for clock in (time.min, time(0, 0, 0, 1), time.max)),
              datetime.combine(date.min, time.min)],
    "span": [None, timedelta(0), timedelta(microseconds=1), timedelta(microseconds=-1), timedelta(days=40_000)],
    "blob": [None, b"", b"\0", b"\0\0", b"a", b"A", b"\x7f", b"\x80", b"\xff"],
}  # fmt: skip

_AWARE = [
    None,
    *(datetime(2024, 1, 1, hour, 30, tzinfo=timezone(timedelta(hours=zone)))
      for hour, zone in ((0, 0), (0, 2), (1, 1), (2, 2), (12, -9))),
    datetime.min.replace(tzinfo=UTC),
]  # fmt: skip
OTHERS |= {"moment": _AWARE, "zoned": _AWARE}
