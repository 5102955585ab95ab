"""Which repositories a unit has, and which entity a repository keeps, however the classes are written."""

from __future__ import annotations

from inspect import get_annotations
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Optional, TypeVar

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import Mapped, mapped_column

from sqlrepo import BaseRepository, BaseUnitOfWork, MappingError, UnsupportedError
from sqlrepo.sqlalchemy import SQLAlchemyRepository
from tests.units.domain import Account, AccountRow, Accounts, Shop, Tag, TagRow, Tags, Todo, TodoRow, Todos, own_base

if TYPE_CHECKING:
    from collections.abc import Sequence as Unimported

    from nowhere import Missing

T = TypeVar("T")
K = TypeVar("K")
E = TypeVar("E", bound=BaseModel)
C = TypeVar("C")


# -- which entity


class Counting(BaseRepository[T, K], Generic[T, K]):
    """Generic, in between."""

    def size(self) -> int:
        return self.count()


class Swapped(BaseRepository[E, K], Generic[K, E]):
    """Its parameters stand the other way round."""


class IntKeyed(Counting[T, int], Generic[T]): ...


class Loud:
    """A mixin that knows no repository."""

    def shout(self) -> list[str]:
        return [one.key.upper() for one in self.find()]  # type: ignore[attr-defined]


class Labelled(Generic[C]):
    label: ClassVar[Any] = None


class Renamed(Counting[K, T], Generic[T, K]):
    """The same names, exchanged."""


@pytest.mark.parametrize(
    "base",
    [
        BaseRepository[Todo, int],
        SQLAlchemyRepository[Todo, int],
        Counting[Todo, int],
        IntKeyed[Todo],
        Swapped[int, Todo],
        Renamed[int, Todo],
    ],
)
def test_generic_classes_in_between_pass_their_arguments_on(db, base):
    class Kept(base):
        model = TodoRow

    class Derived(Kept): ...

    for repository in (Kept, Derived):
        assert repository.definition().mapper.entity is Todo
        assert repository(db).find() == []


def test_mixins_do_not_get_in_the_way(db):
    class Kept(Loud, Labelled[str], Counting[Todo, int], Generic[C]):
        model = TodoRow

    class Final(Kept[bytes]):
        label = "x"

    with Final(db) as todos:
        todos.add(Todo(key="a"))
        assert (todos.shout(), todos.size()) == (["A"], 1)


def test_a_table_may_be_named_before_the_entity(db):
    class Tabled(BaseRepository[T, K], Generic[T, K]):
        model = TodoRow

    class Kept(Tabled[Todo, int]): ...

    assert Kept(db).find() == []
    with pytest.raises(MappingError):
        Tabled(db)


def test_a_class_that_does_not_fit_is_refused_where_its_last_parameter_is_known():
    class Tabled(BaseRepository[T, int], Generic[T]):
        model = TagRow

    with pytest.raises(MappingError):

        class Kept(Tabled[Todo]): ...


def test_an_entity_given_by_name_is_refused():
    with pytest.raises(MappingError, match="Todo"):

        class Kept(BaseRepository["Todo", int]):
            model = TodoRow


# -- which repositories


def names(unit):
    return {name for name in dir(type(unit)) + list(_annotated(type(unit))) if _is_repository(unit, name)}


def _annotated(cls):
    return {name for base in cls.__mro__ for name in get_annotations(base)}


def _is_repository(unit, name):
    try:
        return isinstance(getattr(unit, name), BaseRepository)
    except (AttributeError, MappingError):
        return False


def test_annotations_are_inherited_and_replaced(db):
    class Common(BaseUnitOfWork):
        todos: Todos
        tags: Tags

    class Louder(Todos): ...

    class Own(Common):
        todos: Louder
        accounts: Accounts

    own = Own(db)

    assert names(own) == {"todos", "tags", "accounts"}
    assert type(own.todos) is Louder
    assert type(Common(db).todos) is Todos


def test_units_may_be_mixed(db):
    class WithTags:
        tags: Tags

    class Mixed(WithTags, BaseUnitOfWork):
        todos: Todos

    with Mixed(db) as mixed:
        mixed.todos.add(Todo(key="a"))
        mixed.tags.add(Tag(owner="a", name="b"))
        assert names(mixed) == {"todos", "tags"}


def test_annotations_that_are_no_repositories_declare_nothing(db):
    class Own(BaseUnitOfWork):
        todos: Todos
        tenant: int = 3
        user: str | None
        kind: ClassVar[type[Todos]] = Todos
        counters: list[Todos]
        clock: Missing
        several: Unimported[int]
        either: Optional[dict[str, int]]  # noqa: UP045

    own = Own(db)

    assert names(own) == {"todos"}
    assert own.tenant == 3
    for name in ("user", "counters", "either", "nothing"):
        with pytest.raises(AttributeError):
            getattr(own, name)
    assert not hasattr(own, "user")


def test_an_annotation_that_cannot_be_resolved_says_so_when_asked(db):
    class Own(BaseUnitOfWork):
        todos: Todos
        missing: Missing

    with Own(db) as own:
        assert own.todos.count() == 0
        with pytest.raises(MappingError, match="Missing"):
            _ = own.missing


def test_names_of_the_defining_function_are_found(db):
    def define():
        class Local(Todos): ...

        class Inner(Accounts): ...

        class Own(BaseUnitOfWork):
            local: Local
            inner: Inner
            tags: Tags

        return Own

    own = define()(db)

    assert names(own) == {"local", "inner", "tags"}
    assert type(own.local).__name__ == "Local"


def test_a_repository_defined_after_its_unit_is_found(db):
    class Own(BaseUnitOfWork):
        later: Later

    assert isinstance(Own(db).later, Later)


class Later(Todos): ...


def test_generic_repositories_and_annotated_ones_are_built(db):
    class Generously(BaseRepository[Todo, int], Generic[C]):
        model = TodoRow

    class Own(BaseUnitOfWork):
        generous: Generously[str]

    with Own(db) as own:
        assert own.generous.find() == []


def test_a_repository_that_is_not_complete_is_refused_when_the_unit_is_built(db):
    class Incomplete(BaseRepository[Todo, int]): ...

    class Own(BaseUnitOfWork):
        incomplete: Incomplete

    with pytest.raises(MappingError):
        Own(db)


def test_a_unit_may_have_methods_and_an_init_of_its_own(db):
    class Own(BaseUnitOfWork):
        todos: Todos

        def __init__(self, source, user):
            super().__init__(source, context=user)
            self.user = user

        def add(self, key):
            return self.todos.add(Todo(key=f"{self.user}.{key}"))

    with Own(db, "me") as own:
        assert own.add("a").key == "me.a"
        assert own.todos.context == "me"


def test_a_repository_may_have_an_init_of_its_own(db):
    class Own(BaseRepository[Todo, int]):
        model = TodoRow

        def __init__(self, source, **options):
            super().__init__(source, **options)
            self.calls = 0

        def find(self, *criteria, **options):
            self.calls += 1
            return super().find(*criteria, **options)

    class Store(BaseUnitOfWork):
        todos: Own

    with Store(db) as store:
        store.todos.find()
        assert store.todos.calls == 1


def test_two_repositories_of_one_table_see_each_other_s_rows(db):
    class Short(BaseModel):
        id: int | None = None
        key: str
        value: str = ""
        done: bool = False
        priority: int = 0

    class Shorts(BaseRepository[Short, int]):
        model = TodoRow

    class Own(BaseUnitOfWork):
        todos: Todos
        shorts: Shorts

    with Own(db) as own:
        own.todos.add(Todo(key="a"))
        assert own.shorts.find() == [Short(id=1, key="a")]


def test_a_unit_of_a_generic_context_is_fine(db):
    class Own(BaseUnitOfWork[int]):
        todos: Todos

    assert Own(db, context=5).context == 5
    assert issubclass(Shop, BaseUnitOfWork)
    assert Accounts.definition().mapper.entity is Account
    assert AccountRow.__tablename__ == "account"


def test_one_mapped_class_under_two_names_of_one_column(empty):
    class WordRow(own_base()):
        __tablename__ = "word"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str] = mapped_column("the_text", sa.String(5), unique=True)

    class Word(BaseModel):
        id: int | None = None
        word: str

    class Words(BaseRepository[Word, int]):
        model = WordRow
        columns: ClassVar[dict[str, str]] = {"word": "text"}

    with Words(empty(WordRow)) as words:
        assert words.add(Word(word="a")) == Word(id=1, word="a")


PUBLIC = {"commit", "rollback", "savepoint", "on_commit", "context", "is_open", "idle_warning"}


@pytest.mark.parametrize("name", sorted(PUBLIC | {"_work"}))
def test_a_repository_named_like_something_of_the_units_is_refused(db, name):
    unit = type("Unit", (BaseUnitOfWork,), {"__annotations__": {name: Todos}})
    with pytest.raises(MappingError):
        unit(db)


def test_a_unit_shows_its_repositories_and_little_else(db):
    class Small(BaseUnitOfWork):
        todos: Todos

    assert {name for name in dir(Small(db)) if not name.startswith("_")} == {*PUBLIC, "todos"}


@pytest.mark.parametrize(
    "name",
    ["source", "run", "register", "current", "adopt", "after_commit", "native", "call", "enter", "exit", "journal"],
)
def test_a_repository_may_have_any_other_name(db, name):
    unit = type("Unit", (BaseUnitOfWork,), {"__annotations__": {name: Todos}})
    with unit(db) as opened:
        stored = getattr(opened, name).add(Todo(key="a"))

    with unit(db) as opened:
        assert getattr(opened, name).find() == [stored]


def test_a_fold_nobody_knows_is_refused():
    with pytest.raises(MappingError):

        class Misspelt(BaseRepository[Todo, int]):
            model = TodoRow
            fold: ClassVar[Any] = "asci"


def test_a_wrong_source_is_named_by_its_class_only(db):
    with pytest.raises(UnsupportedError) as caught:
        Shop("postgresql://user:secret@host/db")
    assert "secret" not in str(caught.value)
