"""``python -m sqlrepo audit module:Base``: the audit from a shell.

Knows arguments and exit codes. Must not know what is found.
"""

from __future__ import annotations

import importlib
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Any

from sqlrepo import RepositoryError
from sqlrepo.sqlalchemy import audit

__all__ = ["main"]

_NONE, _FOUND, _WRONG = 0, 1, 2


class _UsageError(Exception):
    """The call makes no sense; its text says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: those of the process by default.

    Returns:
        0 where nothing was found, 1 where something was, 2 where the call makes no sense.
    """
    given = _parser().parse_args(arguments)
    try:
        found = audit(_named(given.tables), given.dialect or _url(given.url))
    except (_UsageError, RepositoryError) as error:
        sys.stderr.write(f"sqlrepo audit: {error}\n")
        return _WRONG
    for one in found:
        sys.stdout.write(f"{one}\n\n")
    sys.stdout.write(f"{_summary(len(found), given)}\n")
    return _FOUND if found else _NONE


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m sqlrepo", description="Repositories and units of work: tools.")
    commands = parser.add_subparsers(required=True, metavar="command")
    command = commands.add_parser("audit", help="tell what of some tables is not portable")
    command.add_argument(
        "tables", metavar="module:name", help="a declarative base class or metadata: shop.storage:Base"
    )
    where = command.add_mutually_exclusive_group(required=True)
    where.add_argument("--dialect", choices=("sqlite", "postgresql", "mariadb", "mysql"), help="a database by name")
    where.add_argument("--url", help="a real database, which is asked for its collations and changed in nothing")
    return parser


def _named(place: str) -> Any:
    """What a module calls by a name.

    Raises:
        _UsageError: there is no such module or name, or importing it fails.
    """
    module, _, name = place.partition(":")
    if not module or not name:
        raise _UsageError(f"{place!r} names no tables; write module:name, shop.storage:Base say")
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        raise _UsageError(f"module {module} cannot be imported: {type(error).__name__}: {error}") from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise _UsageError(f"module {module} has no {name}")
        found = getattr(found, part)
    return found


def _url(given: str) -> str:
    if "://" not in given:
        raise _UsageError("--url wants a URL, postgresql+psycopg://user@host/name say; a name alone is for --dialect")
    return given


def _summary(count: int, given: Namespace) -> str:
    where = given.dialect or "this database"
    return f"{count} finding{'s' * (count != 1)} on {where}" if count else f"Nothing is found: portable on {where}"


if __name__ == "__main__":
    sys.exit(main())
