"""Two hundred increments of one row, eight at a time: what `retry` runs again is counted once."""

from concurrent.futures import ThreadPoolExecutor
from threading import Thread

import pytest

from sqlrepo import retry
from sqlrepo.memory import InMemoryDatabase, driver
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


def test_memory_lets_nobody_commit_between_reading_a_row_and_locking_it(monkeypatch):
    store = InMemoryDatabase()
    with Bank(store) as bank:
        bank.accounts.add(Account("a"))
    found, rivals = driver.sort_rows, []

    def delayed(*request):
        if not rivals:
            rivals.append(Thread(target=retry, args=(lambda: Bank(store), by_lock)))
            rivals[0].start()
            rivals[0].join(0.3)  # time enough, if nothing held it up
        return found(*request)

    monkeypatch.setattr(driver, "sort_rows", delayed)
    retry(lambda: Bank(store), by_lock)
    rivals[0].join()
    with Bank(store) as bank:
        assert bank.accounts.one().balance == 2
