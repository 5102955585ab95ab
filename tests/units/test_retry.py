"""A whole unit of work is run again after an error that may not come twice, and after no other."""

import gc
import logging
import time
import weakref
from contextlib import suppress

import pytest

from sqlrepo import (
    DatabaseUnavailableError,
    LockTimeoutError,
    TransactionAbortedError,
    TransactionConflictError,
    UniqueViolationError,
    retry,
)
from sqlrepo.core import unit
from sqlrepo.memory import InMemoryDatabase
from tests.units.domain import Account, Accounts, Bank, Shop, Todo, Todos


@pytest.fixture(autouse=True)
def slept(monkeypatch):
    """The pauses, which are not waited for."""
    pauses = []
    monkeypatch.setattr(unit.time, "sleep", pauses.append)
    return pauses


def failing(errors):
    """Work that raises these errors, one at a time, before it succeeds; each time after it has written."""
    left = list(errors)

    def work(shop):
        shop.todos.add(Todo(key="a"))
        if left:
            raise left.pop(0)
        return len(left)

    return work


@pytest.mark.parametrize(
    "error",
    [TransactionConflictError("x"), LockTimeoutError("x"), DatabaseUnavailableError("x")],
    ids=lambda error: type(error).__name__,
)
def test_what_may_not_come_twice_is_tried_again_with_nothing_left_of_it(db, error, slept, caplog):
    caplog.set_level(logging.DEBUG, "sqlrepo")
    assert retry(lambda: Shop(db), failing([error, error])) == 0
    assert Todos(db).count() == 1
    assert len(slept) == 2
    assert all(0 <= pause <= 1 for pause in slept)
    assert len([record for record in caplog.records if "run again" in record.getMessage()]) == 2


def test_a_unit_that_is_not_run_again_is_in_no_reference_cycle():
    units = []

    def work(shop):
        units.append(weakref.ref(shop))
        raise TransactionConflictError

    gc.disable()  # or it may free the units before they are looked at
    try:
        with suppress(TransactionConflictError):
            retry(lambda: Shop(InMemoryDatabase()), work, attempts=2)
        for _ in range(100):  # another thread may look at the frames for a moment; a cycle would stay
            if any(unit() for unit in units):
                time.sleep(0.01)
        assert [unit() for unit in units] == [None, None]
    finally:
        gc.enable()


def test_the_last_error_is_raised(db, slept):
    errors = [TransactionConflictError(str(number)) for number in range(3)]
    with pytest.raises(TransactionConflictError) as caught:
        retry(lambda: Shop(db), failing(errors))
    assert caught.value is errors[2]
    assert len(slept) == 2
    assert Todos(db).count() == 0


@pytest.mark.parametrize(
    "error", [KeyError(), UniqueViolationError(None), DatabaseUnavailableError("lost in COMMIT", retryable=False)]
)
def test_what_would_come_again_is_raised_at_once(db, error, slept):
    with pytest.raises(type(error)):
        retry(lambda: Shop(db), failing([error]))
    assert (slept, Todos(db).count()) == ([], 0)


def test_a_conflict_that_commit_finds_is_retried_too():
    bank = InMemoryDatabase()
    with Accounts(bank) as accounts:
        key = accounts.add(Account("a")).id
    disturbed = []

    def work(unit):
        account = unit.accounts.get(key)
        unit.accounts.patch(key, {"balance": account.balance + 1})
        if not disturbed:
            disturbed.append(True)
            with Accounts(bank) as other:
                other.patch(key, {"balance": 100})

    retry(lambda: Bank(bank), work)
    assert Accounts(bank).get(key).balance == 101


def test_an_abort_is_retried_where_its_cause_is(db):
    tries = []

    def work(shop):
        tries.append(True)
        if len(tries) == 1:
            shop._work.mark_rollback_only(TransactionConflictError("swallowed"))

    retry(lambda: Shop(db), work)
    assert len(tries) == 2
    with pytest.raises(TransactionAbortedError):
        retry(lambda: Shop(db), lambda shop: shop._work.mark_rollback_only(KeyError()))


def test_one_attempt_at_least():
    with pytest.raises(ValueError, match="0"):
        retry(lambda: Shop(InMemoryDatabase()), lambda shop: None, attempts=0)
