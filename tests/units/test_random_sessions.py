"""Random writes through repository and session, in savepoints of the unit's and the session's own: none is lost."""

from dataclasses import dataclass
from itertools import count

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from sqlrepo import UniqueViolationError
from tests.units.conftest import bounded
from tests.units.domain import Shop, Todo, TodoRow, Todos, connections_out, database, todo


@dataclass(frozen=True)
class Nested:
    """Steps inside a savepoint, whose it is, and whether it is left by an exception."""

    of_the_session: bool
    steps: list
    fails: bool


STEPS = st.recursive(
    st.sampled_from(["add", "add to session", "flush", "read", "read session", "twice", "twice in session", "delete"]),
    lambda steps: st.builds(Nested, st.booleans(), st.lists(steps, max_size=4), st.booleans()),
    max_leaves=12,
)


class LeftError(Exception):
    """What a savepoint is left by on purpose."""


def row(key):
    return TodoRow(key=key, value="", done=False, priority=0)


class Play:
    """A unit, and the keys its transaction must hold."""

    def __init__(self, shop):
        self.shop = shop
        self.names = map(str, count())

    def steps(self, steps, held):
        for step in steps:
            held = self.nested(step, held) if isinstance(step, Nested) else self.step(step, held)
        return held

    def step(self, name, held):
        shop, key = self.shop, next(self.names)
        match name:
            case "add":
                shop.todos.add(Todo(key=key))
                return held | {key}
            case "add to session":
                shop.session.add(row(key))
                return held | {key}
            case "flush":
                shop.session.flush()
            case "read":
                assert {one.key for one in shop.todos.find()} == held
            case "read session":
                assert set(shop.session.scalars(sa.select(TodoRow.key))) == held
            case "delete" if held:
                shop.todos.delete_where(todo.key == min(held))
                return held - {min(held)}
            case "twice" | "twice in session" if held:
                self.refused(name, min(held))
        return held

    def refused(self, name, key):
        """Write what is there already, which a savepoint makes harmless."""
        write = self.shop.todos.add if name == "twice" else self.shop.session.add
        with pytest.raises(UniqueViolationError), self.shop.savepoint():
            write(Todo(key=key) if name == "twice" else row(key))

    def nested(self, step, held):
        try:
            with self.shop.session.begin_nested() if step.of_the_session else self.shop.savepoint():
                inside = self.steps(step.steps, held)
                leave(step.fails)
        except LeftError:
            return held
        return inside


def leave(by_exception):
    if by_exception:
        raise LeftError


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def db(request):
    made = database(request.param)
    yield made
    made.dispose()


@bounded(100)
@given(st.lists(STEPS, max_size=6), st.booleans())
def test_no_write_is_lost_and_none_comes_back(db, steps, fails):
    held = set()
    with Shop(db) as shop:
        shop.todos.delete_where(everything=True)
    try:
        with Shop(db) as shop:
            held = Play(shop).steps(steps, held)
            leave(fails)
    except LeftError:
        held = set()

    assert {one.key for one in Todos(db).find()} == held
    assert connections_out(db) == 0
