"""A unit that joins a session takes part in what the application does there, and ends nothing of it."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy import event
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
    validates,
    with_loader_criteria,
)

from sqlrepo import (
    BaseRepository,
    BaseUnitOfWork,
    DatabaseUnavailableError,
    MappingError,
    ReadOnlyError,
    StaleEntityError,
    TransactionAbortedError,
    TransactionConflictError,
    UniqueViolationError,
    UnitStateError,
    UnsupportedError,
    fields,
)
from sqlrepo.sqlalchemy import Database, events
from tests.databases import servers
from tests.units.domain import Account, Bank, Base, Shop, Todo, TodoRow, Todos, create, leave_by

todo = fields(Todo)


@pytest.fixture(params=["sqlite", "sqlite-file", "postgresql", "mariadb"])
def engine(request, tmp_path):
    """An engine of the application's, made as its documentation says."""
    if request.param in servers.KINDS:
        made = sa.create_engine(servers.emptied(request.param, Base))
    else:
        name = "" if request.param == "sqlite" else f"{tmp_path}/theirs.db"
        made = sa.create_engine(f"sqlite:///{name}")
        Base.metadata.create_all(made)
    yield made
    assert made.pool.checkedout() == 0 if hasattr(made.pool, "checkedout") else True
    assert not events._LISTENERS
    made.dispose()


@pytest.fixture
def session(engine):
    with Session(engine) as made:
        yield made


def row(key, **values):
    return TodoRow(key=key, **{"value": "", "done": False, "priority": 0, **values})


def keys(engine):
    with Session(engine) as other:
        return sorted(other.scalars(sa.select(TodoRow.key)))


def violate(shop):
    with pytest.raises(UniqueViolationError):
        shop.todos.add_many([Todo(key="twice"), Todo(key="twice")])


# -- one transaction


def test_the_session_commits(engine, session):
    Shop(session).todos.add(Todo(key="a"))
    session.add(row("b"))
    session.commit()
    assert keys(engine) == ["a", "b"]


def test_the_session_rolls_back(engine, session):
    Shop(session).todos.add(Todo(key="a"))
    session.rollback()
    assert keys(engine) == []


def test_leaving_the_session_undoes_what_was_not_committed(engine):
    with Session(engine) as session:
        Shop(session).todos.add(Todo(key="a"))
    assert keys(engine) == []


def test_a_unit_goes_on_after_the_sessions_commit_and_rollback(engine, session):
    shop = Shop(session)
    for key, end in (("a", session.commit), ("b", session.rollback), ("c", session.commit)):
        shop.todos.add(Todo(key=key))
        end()
    assert keys(engine) == ["a", "c"]


def test_a_session_that_cannot_connect_raises_an_error_of_the_library(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path}/missing/a.db")
    with Session(engine) as session, pytest.raises(DatabaseUnavailableError):
        Todos(session).count()


def test_a_repository_joins_alone(engine, session):
    todos = Todos(session)
    stored = todos.add(Todo(key="a"))
    assert todos.get(stored.id) == stored
    session.commit()
    assert keys(engine) == ["a"]


def test_a_scoped_session_is_joined(engine):
    scoped = scoped_session(sessionmaker(engine))
    Shop(scoped).todos.add(Todo(key="a"))
    scoped.commit()
    assert keys(engine) == ["a"]
    scoped.remove()


def test_a_sessions_own_transaction_block_is_joined(engine):
    with sessionmaker(engine).begin() as session:
        Shop(session).todos.add(Todo(key="a"))
    assert keys(engine) == ["a"]


def test_ending_it_is_refused(session):
    shop = Shop(session)
    shop.todos.add(Todo(key="a"))
    for end in (shop.commit, shop.rollback):
        with pytest.raises(UnsupportedError, match="which the application commits"):
            end()
    assert shop.todos.count() == 1


def test_the_session_is_the_applications(session):
    shop = Shop(session)
    assert shop.session is shop.todos.session is session
    assert shop.connection is session.connection()


def test_a_read_only_unit_refuses_to_write(session):
    shop = Shop(session, read_only=True)
    assert shop.todos.count() == 0
    with pytest.raises(ReadOnlyError):
        shop.todos.add(Todo(key="a"))
    with shop.savepoint():
        assert shop.todos.count() == 0


# -- what the session has seen and not sent


def test_pending_objects_are_flushed_first(engine):
    with Session(engine, autoflush=False) as session:
        shop = Shop(session)
        session.add(row("a"))
        assert [todo.key for todo in shop.todos.find()] == ["a"]
        session.add(row("b"))
        assert shop.todos.count() == 2
        session.add(row("c"))
        assert shop.todos.update_where(everything=True, set_={"priority": 5}) == 3
        session.add(row("d"))
        assert shop.todos.upsert(Todo(key="d", value="v"), on="key").created is False
        session.add(row("e"))
        shop.todos.delete_where(everything=True)
        session.commit()
    assert keys(engine) == []


def test_objects_expire_after_a_write(session):
    shop = Shop(session)
    mapped = row("a")
    session.add(mapped)
    session.flush()
    shop.todos.patch(mapped.id, {"value": "v"})
    assert mapped.value == "v"
    shop.todos.upsert(Todo(key="a", value="w"), on="key")
    assert mapped.value == "w"
    shop.todos.delete(mapped.id)
    assert session.get(TodoRow, 1) is None


def test_a_refused_flush_is_the_librarys_error(session):
    shop = Shop(session)
    shop.todos.add(Todo(key="a"))
    session.add(row("a"))
    with pytest.raises(UniqueViolationError) as caught:
        shop.todos.count()
    assert caught.value.fields == ("key",)
    session.rollback()
    assert shop.todos.count() == 0


# -- savepoints


def test_with_is_a_savepoint(engine, session):
    shop = Shop(session)
    shop.todos.add(Todo(key="before"))
    with shop:
        shop.todos.add(Todo(key="a"))
    with pytest.raises(KeyError):
        leave_by(KeyError, shop, lambda shop: shop.todos.add(Todo(key="b")))
    session.commit()
    assert keys(engine) == ["a", "before"]


def test_with_is_entered_once_at_a_time(session):
    shop = Shop(session)
    with shop:
        with pytest.raises(UnitStateError) as caught, shop:
            pass
        assert caught.value.reason == "already_open"
        shop.todos.add(Todo(key="a"))
    with shop, shop.savepoint():
        assert shop.todos.count() == 1


def test_a_repository_nests_too(engine, session):
    todos = Todos(session)
    with pytest.raises(KeyError):
        leave_by(KeyError, todos, lambda todos: todos.add(Todo(key="a")))
    with todos:
        todos.add(Todo(key="b"))
    session.commit()
    assert keys(engine) == ["b"]


def test_a_savepoint_takes_objects_back(engine, session):
    shop = Shop(session)

    def add(_):
        session.add(row("a"))
        shop.todos.add(Todo(key="b"))

    with pytest.raises(KeyError):
        leave_by(KeyError, shop.savepoint(), add)
    session.add(row("c"))
    session.commit()
    assert keys(engine) == ["c"]


def test_a_savepoint_of_the_sessions_counts(engine, session):
    shop = Shop(session)
    shop.todos.add(Todo(key="a"))
    with session.begin_nested() as nested:
        shop.todos.add(Todo(key="b"))
        nested.rollback()
    shop.todos.add(Todo(key="c"))
    with session.begin_nested():
        violate(shop)
        with pytest.raises(TransactionAbortedError):
            shop.todos.count()
        session.get_nested_transaction().rollback()
    assert shop.todos.count() == 2
    session.commit()
    assert keys(engine) == ["a", "c"]


def test_a_savepoint_that_was_there_before_counts(engine, session):
    session.add(row("a"))
    session.begin_nested().commit()
    nested = session.begin_nested()
    called = []
    shop = Shop(session)
    shop.todos.add(Todo(key="b"))
    shop.on_commit(lambda: called.append("b"))
    violate(shop)
    with pytest.raises(TransactionAbortedError):
        shop.todos.count()
    nested.rollback()
    assert shop.todos.count() == 1
    session.commit()
    assert (keys(engine), called) == (["a"], [])


def test_leaving_a_savepoint_commits_nothing(engine, session):
    with Shop(session) as shop:
        shop.todos.add(Todo(key="a"))
    session.rollback()
    assert keys(engine) == []


# -- aborted


def test_a_violation_aborts_until_the_session_rolls_back(engine, session):
    shop = Shop(session)
    shop.todos.add(Todo(key="a"))
    violate(shop)
    with pytest.raises(TransactionAbortedError):
        shop.todos.count()
    session.rollback()
    shop.todos.add(Todo(key="b"))
    session.commit()
    assert keys(engine) == ["b"]


def test_a_session_whose_unit_is_aborted_does_not_pretend_to_commit(engine, session):
    shop = Shop(session)
    shop.todos.add(Todo(key="a"))
    violate(shop)
    with pytest.raises(TransactionAbortedError) as caught:
        session.commit()
    assert isinstance(caught.value.__cause__, UniqueViolationError)
    session.rollback()
    assert keys(engine) == []


def test_a_violation_inside_with_is_healed(engine, session):
    shop = Shop(session)
    with pytest.raises(UniqueViolationError), shop:
        shop.todos.add_many([Todo(key="twice"), Todo(key="twice")])
    shop.todos.add(Todo(key="a"))
    session.commit()
    assert keys(engine) == ["a"]


def test_units_on_one_session_share_what_happens(engine, session):
    first, second = Shop(session), Bank(session)
    first.todos.add(Todo(key="a"))
    second.accounts.add(Account("b"))
    violate(first)
    with pytest.raises(TransactionAbortedError):
        second.accounts.count()
    session.rollback()
    assert second.accounts.count() == 0


def test_a_statement_of_the_sessions_that_is_refused_aborts(session):
    shop = Shop(session)
    shop.todos.add(Todo(key="a"))
    with pytest.raises(sa.exc.IntegrityError):
        session.execute(sa.insert(TodoRow).values(key="a", value="", done=False, priority=0))
    with pytest.raises(TransactionAbortedError):
        shop.todos.count()
    session.rollback()


def test_versions_are_compared(engine, session):
    bank = Bank(session)
    stored = bank.accounts.add(Account("a"))
    bank.accounts.update(stored)
    with pytest.raises(StaleEntityError):
        bank.accounts.update(stored)
    session.commit()


# -- after the commit


def test_callbacks_wait_for_the_sessions_commit(engine, session):
    called = []
    shop, bank = Shop(session), Bank(session)
    shop.on_commit(lambda: called.append(keys(engine)))
    bank.on_commit(lambda: called.append(shop.todos.count()))
    with shop:
        shop.todos.add(Todo(key="a"))
        shop.on_commit(lambda: called.append("inside"))
    assert called == []
    session.commit()
    assert called == [["a"], 1, "inside"]
    session.commit()
    assert called == [["a"], 1, "inside"]


def test_callbacks_go_with_what_is_undone(session):
    called = []
    shop = Shop(session)
    shop.todos.count()
    with pytest.raises(KeyError):
        leave_by(KeyError, shop, lambda shop: shop.on_commit(lambda: called.append("inside")))
    shop.on_commit(lambda: called.append("before"))
    session.rollback()
    session.commit()
    assert called == []


def test_a_failing_callback_is_reported_and_undoes_nothing(engine, session):
    shop = Shop(session)
    shop.todos.add(Todo(key="a"))
    shop.on_commit(lambda: {}["missing"])
    with pytest.raises(ExceptionGroup):
        session.commit()
    assert keys(engine) == ["a"]


# -- connections


def test_a_connection_is_joined(engine):
    with engine.connect() as connection:
        shop = Shop(connection)
        shop.todos.add(Todo(key="a"))
        with pytest.raises(KeyError):
            leave_by(KeyError, shop, lambda shop: shop.todos.add(Todo(key="b")))
        connection.commit()
        shop.todos.add(Todo(key="c"))
        connection.rollback()
        violate(shop)
        with pytest.raises(TransactionAbortedError):
            shop.todos.count()
        connection.rollback()
        shop.todos.add(Todo(key="d"))
        assert shop.connection is connection
        connection.commit()
    assert keys(engine) == ["a", "d"]


def test_a_connections_savepoints_count(engine):
    with engine.begin() as connection:
        with connection.begin_nested():
            pass
        outer = connection.begin_nested()
        shop = Shop(connection)
        violate(shop)
        outer.rollback()
        shop.todos.add(Todo(key="a"))
        inner = connection.begin_nested()
        shop.todos.add(Todo(key="b"))
        inner.rollback()
    assert keys(engine) == ["a"]


def test_what_waits_in_a_session_on_a_joined_connection_is_committed_with_it(engine):
    with engine.connect() as connection:
        shop = Shop(connection)
        shop.session.add(row("a"))
        connection.commit()
        shop.session.add(row("b"))
        connection.rollback()
        assert shop.todos.count() == 1
    assert keys(engine) == ["a"]


def test_a_connection_does_not_announce_its_commit(engine):
    with engine.connect() as connection, pytest.raises(UnsupportedError, match="join a Session"):
        Shop(connection).on_commit(print)


def test_a_connection_that_commits_each_statement_is_not_joined(engine):
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        if engine.dialect.name == "sqlite":  # where there is no such mode: BEGIN begins a transaction
            Shop(connection).todos.add(Todo(key="a"))
            connection.rollback()
        else:
            with pytest.raises(UnsupportedError, match="autocommit"):
                Shop(connection).todos.add(Todo(key="a"))
    assert keys(engine) == []


def test_a_session_on_a_connection_is_joined(engine):
    """As test suites have it: all that a test does is rolled back."""
    if engine.dialect.name == "sqlite":  # as SQLAlchemy's documentation wants it, for savepoints
        event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
        engine.dispose()
        Base.metadata.create_all(engine)
    with engine.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            Shop(session).todos.add(Todo(key="a"))
            session.commit()
            assert Shop(session).todos.count() == 1
            Shop(session).todos.add(Todo(key="b"))
            session.rollback()
            assert Shop(session).todos.count() == 1
        outer.rollback()
    assert keys(engine) == []


def test_a_units_own_session_is_joined(engine):
    with Shop(Database(engine)) as shop:
        Todos(shop.session).add(Todo(key="a"))
        shop.session.commit()  # which flushes, and leaves the rest to the unit
        assert shop.session.scalars(sa.select(TodoRow.key)).all() == ["a"]
        with pytest.raises(UniqueViolationError), shop.savepoint():
            Todos(shop.session).add(Todo(key="a"))
    assert keys(engine) == ["a"]


def test_a_callback_goes_with_a_savepoint_that_the_session_has_announced_only(engine, session):
    called = []
    shop = Shop(session)
    shop.on_commit(lambda: called.append("before"))
    nested = session.begin_nested()
    shop.on_commit(lambda: called.append("inside"))
    nested.rollback()
    nested = session.begin_nested()
    shop.todos.add(Todo(key="a"))
    shop.on_commit(lambda: called.append("inside, set"))
    nested.rollback()
    nested = session.begin_nested()
    shop.on_commit(lambda: called.append("kept"))
    nested.commit()
    session.commit()
    assert (keys(engine), called) == ([], ["before", "kept"])


def test_what_was_refused_before_the_unit_joined_is_its_error_too(engine, session):
    with pytest.raises(sa.exc.DBAPIError):
        session.execute(sa.text("SELECT nonsense"))
    shop = Shop(session)
    if engine.dialect.name == "postgresql":  # the others go on after a refused statement
        for _ in range(2):
            with pytest.raises(TransactionAbortedError):
                shop.todos.count()
        session.rollback()
    assert shop.todos.count() == 0


def test_a_connection_that_has_not_begun_is_joined(tmp_path):
    db = create(Database(f"sqlite:///{tmp_path}/ours.db"))
    with db.engine.connect() as connection:
        Shop(connection).todos.add(Todo(key="a"))
        connection.rollback()
    with db.engine.connect() as connection:
        assert Shop(connection).todos.count() == 0
        Shop(connection).todos.add(Todo(key="b"))
        connection.commit()
    assert keys(db.engine) == ["b"]
    db.dispose()


def test_a_session_without_autobegin_that_has_not_begun_is_refused(engine):
    with Session(engine, autobegin=False) as session:
        shop = Shop(session)
        with pytest.raises(UnitStateError) as caught:
            shop.todos.count()
        assert caught.value.reason == "not_open"
        with session.begin():
            assert shop.todos.count() == 0


@pytest.mark.parametrize("engine", ["postgresql", "mariadb"], indirect=True)
def test_a_session_whose_savepoint_the_server_has_ended_does_not_pretend_to_commit(engine, session):
    with Session(engine) as other:
        for key in ("a", "b"):
            other.add(row(key))
        other.commit()
        with Session(engine) as first:
            first.execute(sa.update(TodoRow).where(TodoRow.key == "a").values(value="first"))
            shop = Shop(session)
            shop.todos.update_where(todo.key == "b", set_={"value": "second"})
            with ThreadPoolExecutor(1) as thread:
                waiting = thread.submit(
                    first.execute, sa.update(TodoRow).where(TodoRow.key == "b").values(value="first")
                )
                lost = None
                try:
                    with shop:
                        shop.todos.update_where(todo.key == "a", set_={"value": "second"})
                except TransactionConflictError as error:
                    lost = error
                if lost is not None:  # MariaDB has ended the savepoint too, and SQLAlchemy stumbles over that
                    with pytest.raises((TransactionAbortedError, sa.exc.OperationalError)):
                        session.commit()
                with suppress(sa.exc.OperationalError):  # the same
                    session.rollback()
                session.close()
                with suppress(sa.exc.DBAPIError):
                    waiting.result()
            first.rollback()
    assert Shop(session).todos.count(value="second") == 0


# -- what is refused


def test_a_session_without_a_database_is_refused():
    with pytest.raises(UnsupportedError, match="no database for TodoRow"):
        Shop(Session())


class Heard(DeclarativeBase): ...


class Note(BaseModel):
    id: int | None = None
    text: str


class NoteRow(Heard):
    __tablename__ = "heard_note"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(sa.String(20))

    @validates("text")
    def check(self, _, value):
        return value.strip()


class Notes(BaseRepository[Note, int]):
    model = NoteRow


class FreeNotes(Notes):
    bypass_orm_events = True


class Desk(BaseUnitOfWork):
    notes: Notes


class FreeDesk(BaseUnitOfWork):
    notes: FreeNotes


@pytest.fixture
def listened(sqlite):
    create(sqlite, Heard)
    with Session(sqlite.engine) as session:
        yield session


def test_validators_are_named(listened):
    for made in (Desk, Notes):
        with pytest.raises(MappingError, match=r"NoteRow .*@validates\('text'\).*bypass_orm_events"):
            made(listened)


def test_a_repository_may_say_that_they_are_bypassed(listened):
    for made in (FreeDesk(listened).notes, FreeNotes(listened)):
        assert made.add(Note(text=" a ")).text == " a "


def test_a_database_of_its_own_bypasses_nobody(sqlite):
    create(sqlite, Heard)
    with Desk(sqlite) as desk:
        desk.notes.add(Note(text="a"))


@pytest.mark.parametrize("name", ["before_insert", "after_delete", "before_update", "load", "refresh", "set"])
def test_listeners_of_mappers_and_instances_are_named(session, name):
    target = TodoRow.key if name == "set" else TodoRow

    def listener(*_):
        """Hear nothing."""

    event.listen(target, name, listener)
    try:
        with pytest.raises(MappingError, match=f"TodoRow .*a {name} listener"):
            Shop(session)
    finally:
        event.remove(target, name, listener)
    Shop(session)


class Noted(DeclarativeBase): ...


class NotedRow(Noted):
    __tablename__ = "noted"
    id: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[dict[str, int]] = mapped_column(MutableDict.as_mutable(sa.JSON(none_as_null=True)))


class NotedOne(BaseModel):
    id: int | None = None
    data: dict[str, int]


class NotedOnes(BaseRepository[NotedOne, int]):
    model = NotedRow


def test_what_sqlalchemy_listens_to_itself_is_no_listener_of_the_application(sqlite):
    create(sqlite, Noted)
    with Session(sqlite.engine) as session:
        assert NotedOnes(session).add(NotedOne(data={"a": 1})).data == {"a": 1}


@pytest.mark.parametrize("name", ["pending_to_persistent", "loaded_as_persistent", "after_bulk_delete"])
def test_listeners_of_the_session_are_named(session, name):
    event.listen(session, name, lambda *_: None)
    with pytest.raises(MappingError, match=name):
        Shop(session)


def test_a_tenants_filter_is_named(engine, session):
    @event.listens_for(session, "do_orm_execute")
    def only_ours(state):
        state.statement = state.statement.options(with_loader_criteria(TodoRow, TodoRow.key.like("our%")))

    with pytest.raises(MappingError, match="a do_orm_execute listener of the session"):
        Shop(session)


def test_a_listener_of_the_flush_is_named(session):
    event.listen(session, "before_flush", lambda *_: None)
    with pytest.raises(MappingError, match="before_flush"):
        Shop(session)


def test_tables_on_two_databases_are_refused(engine, tmp_path):
    other = sa.create_engine(f"sqlite:///{tmp_path}/other.db")
    create_on(other, Heard)

    class Both(BaseUnitOfWork):
        todos: Todos
        notes: FreeNotes

    with Session(binds={Base: engine, Heard: other}) as session:
        with pytest.raises(MappingError, match="in another database"):
            Both(session)
        Todos(session).add(Todo(key="a"))
        FreeNotes(session).add(Note(text="b"))
        assert FreeDesk(session).notes.count() == Shop(session).todos.count() == 1
        session.commit()
        assert FreeNotes(session).count() == 1
    other.dispose()


def create_on(engine, base):
    base.metadata.create_all(engine)


def test_a_session_that_chooses_by_statement_is_asked_for_writing(engine, tmp_path):
    replica = sa.create_engine(f"sqlite:///{tmp_path}/replica.db")

    class Routing(Session):
        def get_bind(self, mapper=None, clause=None, **_):
            return engine if self._flushing or isinstance(clause, sa.Update | sa.Delete) else replica

    with Routing() as session:
        Shop(session).todos.add(Todo(key="a"))
        session.commit()
    assert keys(engine) == ["a"]
