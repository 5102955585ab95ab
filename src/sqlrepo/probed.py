"""A driver while probes are open.

Knows what meets a planted fault, and what is counted. Must not know what any of it does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sqlrepo.driver import Condition, Driver, Fetch, Source, Transaction, Upsert
from sqlrepo.errors import DatabaseUnavailableError, add_failure_note, make_commit_lost_error
from sqlrepo.probes import Verb, planted, sent
from sqlrepo.tables.schema import Row, Schema

__all__ = ["ProbedDriver"]


class ProbedDriver:
    """A driver that meets faults, and whose statements are counted.

    Args:
        driver: what does the work.
        source: where it is from.
        transaction: where failures are reported, as backends do.
    """

    def __init__(self, driver: Driver, source: Source, transaction: Transaction) -> None:
        self._driver = driver
        self._source = source
        self._transaction = transaction

    @property
    def reports_statements(self) -> bool:
        """Whether the backend reports what it sends."""
        return self._driver.reports_statements

    def fetch(self, schema: Schema, request: Fetch) -> list[Row]:
        """Read rows."""
        self._send("fetch", schema)
        return self._driver.fetch(schema, request)

    def count(self, schema: Schema, where: Condition, limit: int | None = None) -> int:
        """Count rows."""
        self._send("count", schema)
        return self._driver.count(schema, where, limit)

    def insert(
        self, schema: Schema, columns: Sequence[str], rows: Sequence[Row], returning: Sequence[str]
    ) -> list[Row]:
        """Insert rows."""
        self._send("insert", schema)
        return self._driver.insert(schema, columns, rows, returning)

    def update(self, schema: Schema, columns: Sequence[str], values: Row, where: Condition) -> int:
        """Change rows."""
        self._send("update", schema)
        return self._driver.update(schema, columns, values, where)

    def upsert(self, schema: Schema, request: Upsert, returning: Sequence[str]) -> tuple[Row, bool]:
        """Insert a row, or change one."""
        self._send("upsert", schema)
        return self._driver.upsert(schema, request, returning)

    def delete(self, schema: Schema, where: Condition) -> int:
        """Delete rows."""
        self._send("delete", schema)
        return self._driver.delete(schema, where)

    def savepoint(self) -> str:
        """Set a savepoint."""
        self._meet("savepoint")
        return self._driver.savepoint()

    def release(self, savepoint: str) -> None:
        """Let a savepoint go."""
        self._meet("release", partial(self._transaction.close_savepoint, savepoint))
        self._driver.release(savepoint)

    def rollback_to(self, savepoint: str) -> None:
        """Undo what was done since a savepoint."""
        self._meet("rollback_to", partial(self._transaction.roll_back_savepoint, savepoint))
        self._driver.rollback_to(savepoint)

    def commit(self) -> None:
        """Commit; where that is to fail, roll back."""
        error = planted("commit", self._source)
        if error is None:
            self._driver.commit()
            return
        try:
            self._driver.rollback()
        except Exception as second:  # noqa: BLE001  # whatever it is, the first error is the one to be raised
            add_failure_note(error, second, "undoing the failed commit")
        if isinstance(error, DatabaseUnavailableError):
            raise make_commit_lost_error() from error
        raise error

    def rollback(self) -> None:
        """Roll back; where that is to fail, the connection is given back all the same."""
        error = planted("rollback", self._source)
        self._driver.rollback()
        if error is not None:
            raise error

    def native(self, kind: str) -> Any:
        """Give the session or the connection."""
        return self._driver.native(kind)

    def _send(self, verb: Verb, schema: Schema) -> None:
        self._meet(verb)
        if not self._driver.reports_statements:
            sent(f"{verb} {schema.name}", self._source)

    def _meet(self, verb: Verb, announce: Callable[[], None] | None = None) -> None:
        """Fail where a fault is planted; the end of a savepoint is announced before it is sent, as engines do."""
        error = planted(verb, self._source)
        if error is None:
            return
        if announce is not None:
            announce()
        self._transaction.fail(error)
        raise error
