"""MariaDB: columns of any character set and collation compare exactly, with the help of their indexes."""

import asyncio
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy import event
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import (
    AsyncBaseRepository,
    AsyncBaseUnitOfWork,
    BaseRepository,
    BaseUnitOfWork,
    InvalidValueError,
    UniqueViolationError,
    UnsupportedError,
    contains,
    fields,
    icontains,
    in_,
    startswith,
)
from sqlrepo.sqlalchemy import AsyncDatabase, Database
from tests.databases import servers

TEXTS = ["a", "A", "a ", "á", "Á", "ab", "ÁB", "b", "B", "", "ÿ", "%"]


class Base(DeclarativeBase): ...


class Word(BaseModel):
    id: int | None = None
    usual: str
    latin: str
    old: str
    exact: str


class WordRow(Base):
    __tablename__ = "word"
    id: Mapped[int] = mapped_column(primary_key=True)
    usual: Mapped[str] = mapped_column(sa.String(20), index=True)
    latin: Mapped[str] = mapped_column(mysql.VARCHAR(20, charset="latin1"), index=True)
    old: Mapped[str] = mapped_column(mysql.VARCHAR(20, charset="utf8mb3"), index=True)
    exact: Mapped[str] = mapped_column(mysql.VARCHAR(20, charset="utf8mb4", collation="utf8mb4_nopad_bin"), index=True)


class Words(BaseRepository[Word, int]):
    model = WordRow


class Ascii(Words):
    fold = "ascii"


word = fields(Word)
FIELDS = [word.usual, word.latin, word.old, word.exact]


@pytest.fixture
def db():
    made = Database(servers.made_for_tests("mariadb", "usual"))
    Base.metadata.drop_all(made.engine)
    Base.metadata.create_all(made.engine)
    with Words(made) as words:
        words.add_many([Word(usual=text, latin=text, old=text, exact=text) for text in TEXTS])
    yield made
    Base.metadata.drop_all(made.engine)
    made.dispose()


def found(db, *criteria, **options):
    return [one.exact for one in Words(db).find(*criteria, **options)]


@pytest.mark.parametrize("field", FIELDS, ids=str)
@pytest.mark.parametrize("text", [*TEXTS, "😀", "я"])
def test_texts_of_any_collation_compare_by_code_point(db, field, text):
    assert found(db, field == text) == [one for one in TEXTS if one == text]
    assert found(db, field != text) == [one for one in TEXTS if one != text]
    assert found(db, field < text) == [one for one in TEXTS if one < text]
    assert found(db, in_(field, [text, "zz"])) == [one for one in TEXTS if one == text]
    assert found(db, contains(field, text)) == [one for one in TEXTS if text in one]
    assert found(db, startswith(field, text)) == [one for one in TEXTS if one.startswith(text)]
    assert found(db, icontains(field, text)) == [one for one in TEXTS if text.lower() in one.lower()]


@pytest.mark.parametrize("field", FIELDS, ids=str)
def test_texts_of_any_collation_sort_by_code_point(db, field):
    assert found(db, order_by=field) == sorted(TEXTS)


def test_columns_of_different_collations_can_be_compared(db):
    for left in FIELDS:
        for right in FIELDS:
            assert found(db, left == right) == TEXTS


def test_unique_columns_of_a_usual_collation_stay_as_they_are(db):
    """No query can repair them; what they take for equal is refused, by the names of the metadata."""

    class Own(DeclarativeBase): ...

    class NameRow(Own):
        __tablename__ = "name"
        name: Mapped[str] = mapped_column(sa.String(20), primary_key=True)

    class Name(BaseModel):
        name: str

    class Names(BaseRepository[Name, str]):
        model = NameRow

    Own.metadata.create_all(db.engine)
    with Names(db) as names:
        names.add(Name(name="a"))
        assert names.get_or_none("A") is None
        for text in ("A", "á", "a "):
            with pytest.raises(UniqueViolationError) as caught, names.unit.savepoint():
                names.add(Name(name=text))
            assert caught.value.fields == ("name",)
    Own.metadata.drop_all(db.engine)


@pytest.mark.parametrize(
    ("criterion", "index", "access"),
    [
        (word.usual == "17", "ix_word_usual", "ref"),
        (word.exact == "17", "ix_word_exact", "ref"),
        (in_(word.usual, ["17", "18"]), "ix_word_usual", "range"),
        (startswith(word.exact, "17"), "ix_word_exact", "range"),
    ],
    ids=str,
)
def test_indexes_are_used(db, criterion, index, access):
    with Words(db) as words:
        words.add_many([Word(usual=f"{n}", latin="", old="", exact=f"{n}") for n in range(1_000)])
        words.find()
        sent = []
        event.listen(db.engine, "before_cursor_execute", lambda *arguments: sent.append(arguments[2:4]))
        words.find(criterion)
        [(statement, parameters)] = sent
    with db.engine.connect() as connection:
        connection.exec_driver_sql("ANALYZE TABLE word")
        plan = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).mappings().one()
    assert (plan["key"], plan["type"]) == (index, access)


def test_values_that_do_not_fit_are_refused_whatever_the_server_s_mode(db):
    url = db.engine.url.update_query_dict({"init_command": "SET SESSION sql_mode = ''"})
    lax = Database(url)
    with pytest.raises(sa.exc.DBAPIError), Words(lax) as words:
        words.find()
        words.unit._work.unwrap("connection").exec_driver_sql(f"UPDATE word SET usual = '{'x' * 21}'")
    lax.dispose()


def test_an_engine_whose_server_cuts_values_is_named(db, caplog):
    url = db.engine.url.update_query_dict({"init_command": "SET SESSION sql_mode = ''"})
    engine = sa.create_engine(url, isolation_level="READ COMMITTED")
    assert Words(Database(engine)).count() == len(TEXTS)
    assert sum("STRICT_TRANS_TABLES" in record.getMessage() for record in caplog.records) == 1
    engine.dispose()


def test_an_older_server_folds_by_ascii_only_and_says_so(db, caplog, monkeypatch):
    older = Database(db.engine.url)
    with older.engine.connect():
        monkeypatch.setattr(older.engine.dialect, "server_version_info", (10, 6, 4))
    with Ascii(older) as words:
        assert [one.exact for one in words.find(icontains(word.usual, "B"))] == ["ab", "ÁB", "b", "B"]
        assert [one.exact for one in words.find(icontains(word.latin, "Á"))] == ["Á", "ÁB"]
    with Words(older) as words:
        with pytest.raises(UnsupportedError, match='fold = "ascii"'):
            words.find(icontains(word.usual, "b"))
        assert words.count() == len(TEXTS)  # nothing was sent, so nothing is aborted
    assert "unicode_fold" in older.missing_capabilities
    assert sum("10.6" in record.getMessage() for record in caplog.records) == 1
    older.dispose()


def test_a_mysql_without_checks_is_refused(db, monkeypatch):
    other = Database(db.engine.url)
    with other.engine.connect():
        monkeypatch.setattr(other.engine.dialect, "is_mariadb", False)
        monkeypatch.setattr(other.engine.dialect, "server_version_info", (8, 0, 16))
    with pytest.raises(UnsupportedError, match=r"MySQL 8\.0\.16.*use MySQL 8\.0\.17"), Words(other) as words:
        words.find()
    assert other.engine.pool.checkedout() == 0
    other.dispose()


def test_a_url_may_say_mariadb(db):
    named = Database(db.engine.url.set(drivername="mariadb+pymysql"))
    assert found(named, word.usual == "a") == ["a"]
    named.dispose()


# -- statements that are longer than the server accepts


class File(BaseModel):
    id: int | None = None
    title: str = ""
    content: bytes = b""
    notes: list[str] = []


class FileRow(Base):
    __tablename__ = "file"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(mysql.LONGTEXT())
    content: Mapped[bytes] = mapped_column("stored_content", mysql.LONGBLOB())
    notes: Mapped[list[str]] = mapped_column(sa.JSON)


class Files(BaseRepository[File, int]):
    model = FileRow


class AsyncFiles(AsyncBaseRepository[File, int]):
    model = FileRow


class Desk(BaseUnitOfWork):
    files: Files


class AsyncDesk(AsyncBaseUnitOfWork):
    files: AsyncFiles


FILE = fields(File)


@pytest.fixture
def limit(db):
    with db.engine.connect() as connection:
        return connection.exec_driver_sql("SELECT @@max_allowed_packet").scalar_one()


@pytest.fixture(params=["pymysql", "asyncmy"])
def run(request, db):
    """A function that runs another with a repository of files."""
    if request.param == "pymysql":

        def run(work):
            with Desk(db) as desk:
                return work(desk.files)

        yield run
        return

    async def run_once(work):
        asynchronous = AsyncDatabase(db.engine.url.set(drivername="mysql+asyncmy"))
        try:
            async with AsyncDesk(asynchronous) as desk:
                return await work(desk.files)
        finally:
            await asynchronous.dispose()

    yield lambda work: asyncio.run(run_once(work))


BIG = [
    ("add", "content", lambda files, big: files.add(File(content=big))),
    ("add_many", "content", lambda files, big: files.add_many([File(title="a"), File(content=big), File()])),
    ("save", "content", lambda files, big: files.save(File(id=7, content=big))),
    ("upsert", "content", lambda files, big: files.upsert(File(id=7, content=big), on=["id"])),
    ("update", "content", lambda files, big: files.update(File(id=1, title="a", content=big))),
    ("patch", "content", lambda files, big: files.patch(1, {"content": big})),
    ("update_where", "title", lambda files, big: files.update_where(id=1, set_={"title": big.decode()})),
    ("find", None, lambda files, big: files.find(content=big)),
    ("count", None, lambda files, big: files.count(FILE.title == big.decode())),
    ("delete_where", None, lambda files, big: files.delete_where(title=big.decode())),
]


@pytest.mark.parametrize(("field", "call"), [each[1:] for each in BIG], ids=[each[0] for each in BIG])
def test_a_value_longer_than_a_packet_is_invalid(run, limit, field, call):
    run(lambda files: files.add(File(id=1)))

    with pytest.raises(InvalidValueError) as error:  # which the server would answer by closing the connection
        run(lambda files: call(files, b"x" * (limit + limit // 2)))

    assert (error.value.field, error.value.retryable) == (field, False)
    assert error.value.__cause__ is not None
    assert run(lambda files: files.find()) == [File(id=1)]


def test_a_savepoint_survives_a_value_longer_than_a_packet(db, limit):
    with Desk(db) as desk:
        desk.files.add(File(id=1))
        with pytest.raises(InvalidValueError), desk.savepoint():
            desk.files.add(File(content=b"x" * limit))
        desk.files.add(File(id=2))

    with pytest.raises(InvalidValueError), Desk(db, read_only=True) as desk:
        desk.files.find(content=b"x" * limit)
    with Desk(db) as desk:
        assert [file.id for file in desk.files.find()] == [1, 2]


def test_a_batch_longer_than_a_packet_is_stored(run, limit):
    texts = [f"{number:04}" + "\U0001f600" * (limit // 100) for number in range(30)]  # of four bytes each

    titled = run(lambda files: files.add_many([File(title=text) for text in texts]))
    noted = run(lambda files: files.add_many([File(notes=[text]) for text in texts]))

    assert [file.title for file in titled] == texts
    assert [file.notes for file in noted] == [[text] for text in texts]


class Ticket(BaseModel):
    id: UUID
    seat: str


class TicketRow(Base):
    __tablename__ = "ticket_of_mariadb"
    id: Mapped[UUID] = mapped_column(primary_key=True)  # MariaDB's own type
    seat: Mapped[str] = mapped_column(sa.String(20))


class Tickets(BaseRepository[Ticket, UUID]):
    model = TicketRow


@pytest.mark.parametrize("name", ["mysql", "mariadb"])
def test_a_batch_with_uuids_as_keys_is_stored_by_an_engine_that_has_not_connected(db, name):
    tickets = [Ticket(id=uuid4(), seat=str(number)) for number in range(3)]
    fresh = Database(db.engine.url.set(drivername=f"{name}+pymysql"))
    with Tickets(fresh) as repository:
        assert repository.add_many(tickets) == tickets
        assert repository.get_many([ticket.id for ticket in tickets]) == tickets
        assert repository.delete_where(everything=True) == 3
    fresh.dispose()
