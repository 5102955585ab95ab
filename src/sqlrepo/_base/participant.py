"""A repository's place in a unit of work: how its calls get their transaction.

Knows units of work, and what a repository may do without one. Must not know what the calls are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from sqlrepo._base.definition import Declarative
from sqlrepo._base.scope import Scope, evaluated
from sqlrepo._base.selection import Selection, select
from sqlrepo._base.unit import BaseUnitOfWork
from sqlrepo.criteria import And, Compare, Criterion
from sqlrepo.driver import Driver, Joinable, Row, Source
from sqlrepo.errors import ConstraintError, UnitStateError
from sqlrepo.mapping import Mapper
from sqlrepo.order import OrderBy
from sqlrepo.schema import Schema

__all__ = ["Participant"]

T = TypeVar("T")
R = TypeVar("R")


class Participant(Declarative[T], Generic[T]):
    """What reading and writing have in common."""

    def __init__(self, source: Source | Joinable | BaseUnitOfWork[Any], *, context: Any = None) -> None:
        if isinstance(source, BaseUnitOfWork):
            self._unit: BaseUnitOfWork[Any] = source
            self._source: Source | None = None
        else:
            self._unit = self._own(source, context=context)
            self._unit.adopt(type(self))
            self._source = self._unit.source
        self._mapper: Mapper[T] = self.definition().mapper
        self._unscoped = Scope(self._mapper)
        self._unit.introduce(self._mapper.schema.name, self._mapper.field)

    @property
    def unit(self) -> BaseUnitOfWork[Any]:
        """The unit of work the repository takes part in; its own where it stands alone."""
        return self._unit

    @property
    def context(self) -> Any:
        """What the application gave the unit of work to know."""
        return self._unit.context

    def __enter__(self) -> Self:
        if self._source is not None:
            self._unit.__enter__()
        elif not self._unit.is_open:
            raise UnitStateError("not_open", "enter the unit of work this repository belongs to first")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._source is not None:
            self._unit.__exit__(kind, error, traceback)
        elif error is not None:
            self._unit.doom(error)

    def _own(self, source: Source | Joinable, **options: Any) -> BaseUnitOfWork[Any]:
        unit = BaseUnitOfWork[Any](source, **options)
        unit.stand_for(self._kind)
        return unit

    # -- calls

    def _read(self, work: Callable[[Driver], R], scope: Scope | None = None) -> R:
        """Run the statements of a reading call; alone and outside ``with``, in a transaction of their own."""
        work = self._within(scope, work)
        if self._source is not None and not self._unit.is_open:
            with self._own(self._source, read_only=True) as unit:
                return unit.run(work)
        return self._unit.run(work)

    def _write(self, work: Callable[[Driver], R], scope: Scope | None = None) -> R:
        """Run the statements of a writing call."""
        work = self._within(scope, work)
        if self._source is not None and not self._unit.is_open:
            raise UnitStateError(
                "write_outside", f"write inside `with {self._name}(...) as repository:`, or in a unit of work"
            )
        try:
            return self._unit.run(work, write=True)
        except ConstraintError as error:
            # Below, columns are all there is; and a cascade may meet the constraint of another repository's table.
            own = error.table in (None, self._mapper.schema.name)
            error.fields = tuple(map(self._mapper.field if own else self._unit.field_of(error.table), error.fields))
            raise

    def _foreseen(self, prepare: Callable[[], R]) -> R:
        """Complete values before they are sent; a constraint that can be foreseen aborts like one that is met."""
        try:
            return prepare()
        except ConstraintError as error:
            self._write(_raising(error))
            raise

    def _scope(self) -> Scope:
        """The rows there are for a call, to be asked for once in each.

        Raises:
            QueryError: the repository does not say which.
        """
        definition = self.definition()
        if not definition.scoped:
            return self._unscoped
        rows = evaluated(self._mapper, f"{self._name}.scope()", self.scope)
        if not definition.lets_leave:
            return Scope(self._mapper, rows, rows)
        return Scope(self._mapper, rows, evaluated(self._mapper, f"{self._name}.stays()", self.stays))

    def _within(self, scope: Scope | None, work: Callable[[Driver], R]) -> Callable[[Driver], R]:
        """Statements that know no rows outside the scope; the call's own, where it has asked for it already."""
        kept = scope or self._scope()
        return work if kept is self._unscoped else lambda driver: work(kept.within(driver))

    @property
    def _kind(self) -> type[Any]:
        """The class that the application has."""
        return type(self)

    @property
    def _name(self) -> str:
        return self._kind.__name__

    # -- questions

    @property
    def _schema(self) -> Schema:
        return self._mapper.schema

    def _select(
        self,
        criteria: Iterable[object],
        equals: Mapping[str, Any],
        *,
        order_by: OrderBy = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> Selection:
        return select(self._mapper, criteria, equals, order_by=order_by, limit=limit, offset=offset)

    def _keyed(self, values: Mapping[str, Any]) -> Criterion:
        return And(tuple(Compare(self._mapper.ref(name), "==", value) for name, value in values.items()))

    # -- entities

    def _load(self, rows: Sequence[Row]) -> list[T]:
        if self.definition().custom_load:
            return [self.to_domain(record) for record in self._mapper.records(rows)]
        return self._mapper.load(rows)


def _raising(error: Exception) -> Callable[[Driver], None]:
    """Stand in for the statement that would have met an error."""

    def work(_: Driver) -> None:
        raise error

    return work
