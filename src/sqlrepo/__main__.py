"""The portability audit on the command line: ``python -m sqlrepo audit module:Base --dialect postgresql``."""

from __future__ import annotations

import importlib
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from typing import Any

from sqlrepo import RepositoryError
from sqlrepo.sqlalchemy import audit
from sqlrepo.sqlalchemy.audit import find_short_keys

_CLEAN, _FOUND, _USAGE = 0, 1, 2

# No finding, for it concerns ordinary keys: what the application does with them decides.
_SHORT_KEYS = (
    "Note: the generated keys of {} have 32 bits or less. A client that may choose a key can choose the last one, and "
    "then none is left to generate: do not take keys from clients."
)


class _UsageError(Exception):
    """The arguments are wrong; the text says how to correct them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: the command line without the program's name; by default that of the process.

    Returns:
        0 if the audit finds nothing, 1 if it finds something, 2 if the arguments are wrong or the audit fails.
    """
    options = _parser().parse_args(arguments)
    try:
        tables = _load(options.tables)
        findings = audit(tables, options.dialect or _check_url(options.url))
    except (_UsageError, RepositoryError) as error:
        sys.stderr.write(f"sqlrepo audit: {error}\n")
        return _USAGE
    for paragraph in _paragraphs(findings):
        sys.stdout.write(f"{paragraph}\n\n")
    if short := find_short_keys(tables):
        sys.stdout.write(f"{_SHORT_KEYS.format(', '.join(short))}\n\n")
    sys.stdout.write(f"{_summary(len(findings), options)}\n")
    return _FOUND if findings else _CLEAN


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m sqlrepo", description="Tools for repositories and units of work.")
    commands = parser.add_subparsers(required=True, metavar="command")
    command = commands.add_parser("audit", help="report which parts of some tables are not portable")
    command.add_argument(
        "tables", metavar="module:name", help="a declarative base class or metadata, such as shop.storage:Base"
    )
    target = command.add_mutually_exclusive_group(required=True)
    target.add_argument("--dialect", choices=("sqlite", "postgresql", "mariadb", "mysql"), help="a kind of database")
    target.add_argument("--url", help="a database, whose collations are read; the audit changes nothing")
    return parser


def _load(location: str) -> Any:
    module, _, name = location.partition(":")
    if not module or not name:
        raise _UsageError(f"{location!r} does not name any tables; write module:name, such as shop.storage:Base")
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        raise _UsageError(f"module {module} cannot be imported: {type(error).__name__}: {error}") from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise _UsageError(f"module {module} has no {name}")
        found = getattr(found, part)
    return found


def _check_url(url: str) -> str:
    if "://" not in url:  # the message does not repeat the argument, which may hold a password
        raise _UsageError(
            "--url needs a URL, such as postgresql+psycopg://user@host/name; for a mere name, write --dialect"
        )
    return url


def _paragraphs(findings: Sequence[Any]) -> Iterator[str]:
    """Return a paragraph for each finding, and one for all tables without a version, with a line for each."""
    texts = [str(finding) for finding in findings if finding.rule != "lost-update"]
    lost = [str(finding).split("\n", 1) for finding in findings if finding.rule == "lost-update"]
    yield from texts
    if lost:
        yield "\n".join((*(head for head, _ in lost), lost[0][1]))


def _summary(count: int, options: Namespace) -> str:
    target = options.dialect or "this database"
    return f"{count} finding{'s' * (count != 1)} on {target}" if count else f"No findings: portable on {target}"


if __name__ == "__main__":
    sys.exit(main())
