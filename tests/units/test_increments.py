"""Two hundred increments of one row, eight at a time: what `retry` runs again is counted once."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from sqlrepo import retry
from tests.units.domain import Account, Bank

TIMES, WRITERS = 200, 8


def many(db, increment):
    with Bank(db) as bank:
        key = bank.accounts.add(Account("a")).id
    with ThreadPoolExecutor(WRITERS) as pool:
        for done in [pool.submit(retry, lambda: Bank(db), increment, attempts=400) for _ in range(TIMES)]:
            done.result()
    with Bank(db) as bank:
        return bank.accounts.get(key)


def by_version(bank):
    account = bank.accounts.one()
    bank.accounts.update(Account(account.name, account.balance + 1, account.id, account.version))


def by_lock(bank):
    account = bank.accounts.find(lock="update")[0]
    bank.accounts.patch(account.id, {"balance": account.balance + 1})


@pytest.mark.parametrize("increment", [by_version, by_lock])
def test_every_increment_is_counted_once(shared, increment):
    account = many(shared, increment)
    assert (account.balance, account.version) == (TIMES, TIMES + 1)
