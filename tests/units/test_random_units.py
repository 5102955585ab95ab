"""Random units in memory, open at once: what one commits is whole, and what is refused changes nothing."""

from hypothesis import given
from hypothesis import strategies as st

from sqlrepo import ConstraintError, NotFoundError, RepositoryError, TransactionConflictError
from sqlrepo.memory import InMemoryDatabase
from tests.units.conftest import bounded
from tests.units.domain import Shop, Todo, Todos

KEYS = "abc"
STEPS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["add", "save", "patch", "rename", "delete", "read", "commit", "commit", "rollback"]),
        st.integers(1, 3),
        st.sampled_from(KEYS),
    ),
    max_size=30,
)


def contents(db):
    return {one.id: (one.key, one.value) for one in Todos(db).find()}


class Player:
    """A unit, and what it must find stored after its next commit."""

    def __init__(self, db):
        self.unit = Shop(db)
        self.unit.__enter__()
        self.written = {}

    def write(self, name, number, key, token):
        """Make one call in a savepoint, so that a refusal changes nothing, and note what it wrote."""
        todos = self.unit.todos
        entity = Todo(id=number, key=key, value=token)
        try:
            with self.unit.savepoint():
                match name:
                    case "add":
                        stored = todos.add(entity)
                    case "save":
                        stored = todos.save(entity)
                    case "patch":
                        stored = todos.patch(number, {"value": token})
                    case "rename":
                        stored = todos.patch(number, {"key": key})
                    case "delete":
                        stored = todos.delete(number)
        except (ConstraintError, NotFoundError):
            return
        self.written[number] = (stored.key, stored.value) if stored else None

    def commit(self, db):
        before = contents(db)
        try:
            self.unit.commit()
        except (ConstraintError, TransactionConflictError):
            assert contents(db) == before
        else:
            after = contents(db)
            assert {number: after.get(number) for number in self.written} == self.written
            assert {number: before[number] for number in before if number not in self.written} == {
                number: after[number] for number in after if number not in self.written
            }
        self.written = {}


@bounded(100)
@given(STEPS)
def test_commits_are_whole_and_uniques_hold(steps):
    db = InMemoryDatabase()
    players = [Player(db) for _ in range(3)]
    for token, (number, name, row, key) in enumerate(steps):
        player = players[number]
        match name:
            case "commit":
                player.commit(db)
            case "rollback":
                player.unit.rollback()
                player.written = {}
            case "read":
                seen = {one.id: (one.key, one.value) for one in player.unit.todos.find()}
                others = {number: value for number, value in contents(db).items() if number not in player.written}
                own = {number: value for number, value in player.written.items() if value is not None}
                assert seen == others | own
            case _:
                player.write(name, row, key, f"{token}")
        taken = [one.key for one in Todos(db).find()]
        assert len(taken) == len(set(taken))
    for player in players:
        player.unit.rollback()
        player.unit.__exit__(None, None, None)
    unique_indexes_hold(db)


def unique_indexes_hold(db):
    """Whether exactly the values that are stored are refused."""
    taken = {one.key for one in Todos(db).find()}
    with Shop(db) as shop:
        for key in KEYS:
            refused = False
            try:
                with shop.savepoint():
                    shop.todos.add(Todo(key=key))
            except RepositoryError:
                refused = True
            assert refused == (key in taken)
