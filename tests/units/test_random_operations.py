"""Random sequences of calls, savepoints and ends of transactions: memory and SQLite answer and keep the same."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlrepo import ConstraintError, RepositoryError, not_
from tests.units.domain import Account, Bank, Shop, Todo, TodoQuery, Todos, account, create, database, todo
from tests.units.test_random_queries import bounded

IDS = st.integers(1, 4)
KEYS = st.sampled_from(["a", "b", "c", "x" * 21])
TODOS = st.builds(Todo, id=IDS, key=KEYS, done=st.booleans(), priority=st.integers(0, 2))
CHANGES = st.dictionaries(st.sampled_from(["key", "value"]), KEYS, max_size=2)
CRITERIA = st.sampled_from([todo.done, not_(todo.done), todo.priority > 0, todo.key == "a", todo.id < 3])


@dataclass(frozen=True)
class Call:
    """One call of a repository."""

    name: str
    arguments: tuple = ()
    options: dict = field(default_factory=dict)

    def on(self, shop):
        return getattr(shop.todos, self.name)(*self.arguments, **self.options)


@dataclass(frozen=True)
class Savepoint:
    """Steps inside a savepoint, and whether it is left by an exception."""

    steps: list
    fails: bool


@dataclass(frozen=True)
class End:
    """The end of a transaction before the end of its unit."""

    name: str


def calls(name, *arguments, **options):
    return st.builds(lambda given, more: Call(name, given, more), st.tuples(*arguments), st.fixed_dictionaries(options))


CALLS = st.one_of(
    calls("add", TODOS),
    calls("add_many", st.lists(TODOS, max_size=3)),
    calls("update", TODOS),
    calls("save", TODOS),
    calls("patch", IDS, CHANGES),
    calls("delete", IDS),
    calls("remove", TODOS),
    calls(
        "update_where", CRITERIA, set_=st.sampled_from([{"value": "v"}, {"key": "b"}, {"done": True, "priority": 1}])
    ),
    calls("delete_where", CRITERIA),
    calls("get", IDS),
    calls("get_many", st.lists(IDS, max_size=3)),
    calls("find", CRITERIA, order_by=st.sampled_from(["-priority", "key", None])),
    calls("one_or_none", CRITERIA),
    calls("page", st.builds(TodoQuery, limit=st.integers(0, 3), offset=st.integers(0, 3)), with_total=st.booleans()),
    calls(
        "scroll",
        st.builds(TodoQuery, limit=st.integers(1, 3), order_by=st.sampled_from(["-due,priority", "-priority"])),
    ),
)
STEPS = st.recursive(
    CALLS | st.builds(End, st.sampled_from(["commit", "rollback"])),
    lambda steps: st.builds(Savepoint, st.lists(steps, max_size=4), st.booleans()),
    max_leaves=12,
)
UNITS = st.lists(st.tuples(st.lists(STEPS, max_size=6), st.booleans()), max_size=3)


class LeftError(Exception):
    """What a savepoint or a unit is left by on purpose."""


def told(error):
    """An error as both backends must raise it; which of several violated uniques is named is open."""
    fields = (
        None if isinstance(error, ConstraintError) else [value for value in vars(error).values() if value is not None]
    )
    return type(error), fields, type(error.__cause__) if isinstance(error.__cause__, RepositoryError) else None


def leave(by_exception):
    if by_exception:
        raise LeftError


def played(shop, steps, answers):
    """Take steps, noting every answer and error."""
    for step in steps:
        try:
            match step:
                case Call():
                    answers.append(step.on(shop))
                case End(name):
                    answers.append(getattr(shop, name)())
                case Savepoint(inner, fails):
                    with shop.savepoint():
                        played(shop, inner, answers)
                        leave(fails)
        except (RepositoryError, LeftError) as error:
            answers.append(told(error))


def history(db, units):
    """Everything that was answered, and what is left in the end."""
    answers = []
    for steps, fails in units:
        try:
            with Shop(db) as shop:
                played(shop, steps, answers)
                leave(fails)
        except (RepositoryError, LeftError) as error:
            answers.append(told(error))
        answers.append(Todos(db).find())
    return answers


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def stored(request):
    made = database(request.param)
    yield made
    made.dispose()


@bounded(100)
@given(UNITS)
def test_memory_and_the_database_tell_the_same_history(stored, units):
    with Shop(stored) as shop:
        shop.todos.delete_where(everything=True)

    assert history(database("memory"), units) == history(stored, units)


@bounded(100)
@given(
    st.lists(st.tuples(st.sampled_from(["update", "patch", "remove", "save", "where"]), st.integers(0, 3)), max_size=8)
)
def test_memory_and_the_database_count_the_same_versions(stored, writes):
    def versions(db):
        seen = []
        with Bank(create(db)) as bank:
            bank.accounts.delete_where(everything=True)
            bank.accounts.add(Account("a", id=1))
            for name, version in writes:
                given = Account("a", version, 1, version or None)
                try:
                    match name:
                        case "patch":
                            seen.append(bank.accounts.patch(1, {"version": version} if version else {"balance": 3}))
                        case "where":
                            seen.append(bank.accounts.update_where(account.id == 1, set_={"balance": version}))
                        case _:
                            seen.append(getattr(bank.accounts, name)(given))
                except RepositoryError as error:
                    seen.append(told(error))
            return [*seen, bank.accounts.find()]

    assert versions(database("memory")) == versions(stored)
