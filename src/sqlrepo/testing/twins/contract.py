"""The twin as a class to derive from: random programs on memory and on your database must come to the same.

Knows pytest and what the user says. Must not know how programs are made or compared.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Literal

import pytest

from sqlrepo.sqlalchemy import AsyncDatabase, Database
from sqlrepo.testing.twins.explore import Effort, Exploration
from sqlrepo.testing.twins.stores import Stores
from sqlrepo.testing.twins.subject import Subject

__all__ = ["PROFILES", "TWINS", "TwinContract"]

#: The property of a test's report that holds what was run.
TWINS = "sqlrepo_twins"

#: What a profile tries; the class or the environment chooses one.
PROFILES: Mapping[str, Effort] = {
    "quick": Effort(programs=40),
    "thorough": Effort(programs=500, operations=100_000),
}


class _NotCollected:
    """``__test__`` of the contract itself; its subclasses have none, so pytest judges them by their names."""

    def __get__(self, instance: object, owner: type) -> bool:
        if owner.__module__ == __name__:
            return False
        raise AttributeError("__test__")


class TwinContract:
    """Random programs over a unit of work, run on memory and on a database, which must agree in all they come to.

    ::

        class TestShopTwins(TwinContract):
            unit = Shop
            queries = {"todos": TodoQuery}
            url = "postgresql+psycopg://postgres@localhost/shop_twins"

    Each program is several units of work: calls of all repositories, savepoints, early ends, exceptions, writes that
    the tables refuse. Results, order, errors and what is stored at last are compared; generated keys by the order of
    their creation. A program that fails is made as short as can be and printed as Python.

    The database must be the test's own: tables that are missing are made, **and all rows in the unit's tables are
    deleted**, again and again. It is refused if there are any at first, unless you say `may_empty`.

    Attributes:
        unit: a subclass of `BaseUnitOfWork` or `AsyncBaseUnitOfWork`, whose annotations declare repositories.
        queries: query objects, or tuples of several, by repository.
        entities: Hypothesis strategies for entities, by repository, where the usual values do not do.
        url: the database; override the fixture `database` instead where it is not known before.
        context: what the units are given.
        profile: ``quick`` or ``thorough``; by default what the environment's ``SQLREPO_TWINS`` says, or ``quick``.
        programs: how many programs are made; the profile's number by default.
        operations: how many calls there must be at least; the profile's number by default.
        seed: what the programs depend on; None for other ones in each run.
        may_empty: whether rows that are there at first may be deleted.
    """

    __test__: Any = _NotCollected()

    unit: ClassVar[type[Any]]
    queries: ClassVar[Mapping[str, Any]] = {}
    entities: ClassVar[Mapping[str, Any]] = {}
    url: ClassVar[Any] = None
    context: ClassVar[Any] = None
    profile: ClassVar[Literal["quick", "thorough"] | None] = None
    programs: ClassVar[int | None] = None
    operations: ClassVar[int | None] = None
    seed: ClassVar[int | None] = 0
    may_empty: ClassVar[bool] = False

    @pytest.fixture
    def database(self) -> Any:
        """The database: a `Database`, for async units an `AsyncDatabase`; override it to give one of your own."""
        if self.url is None:
            raise TypeError(f"{type(self).__name__} needs a url, or a fixture `database`")
        return (AsyncDatabase if Subject(self.unit).asynchronous else Database)(self.url)

    @pytest.fixture
    def exploration(self, database: Any) -> Iterator[Exploration]:
        """The programs to run, over tables that are there and empty."""
        subject = Subject(self.unit, self.queries, self.entities)
        stores = Stores(subject, database, self.context)
        try:
            stores.create()
            if not self.may_empty:
                stores.refuse_rows()
            yield Exploration(subject, stores, self.effort())
            stores.renew()
        finally:
            stores.close()

    def effort(self) -> Effort:
        """How much is tried."""
        profile = PROFILES[self.profile or os.environ.get("SQLREPO_TWINS") or "quick"]
        return Effort(
            programs=self.programs or profile.programs,
            operations=profile.operations if self.operations is None else self.operations,
            seed=self.seed,
        )

    def test_memory_and_the_database_agree(
        self, exploration: Exploration, record_property: Callable[[str, object], None]
    ) -> None:
        """Run the programs."""
        __tracebackhide__ = True
        exploration.run()
        record_property(TWINS, str(exploration))
