"""Classes of attrs are entities like any other."""

import subprocess
import sys

import attrs
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import BaseRepository, BaseUnitOfWork, MappingError, QueryObject, desc, fields, matches


class Base(DeclarativeBase): ...


class CoinRow(Base):
    __tablename__ = "attrs_coin"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(20), unique=True)
    worth: Mapped[int]
    mint: Mapped[str | None] = mapped_column(sa.String(20))


@attrs.frozen
class Coin:
    name: str
    worth: int = attrs.field(default=0, validator=attrs.validators.ge(0))
    _mint: str | None = None
    id: int | None = None


class CoinQuery(QueryObject[Coin]):
    worth_ge: int | None = None
    limit: int = 10


class Coins(BaseRepository[Coin, int]):
    model = CoinRow
    columns = {"_mint": "mint"}


class Purse(BaseUnitOfWork):
    coins: Coins


c = fields(Coin)


@attrs.define
class Name:
    name: str


@pytest.fixture
def purse(empty):
    return Purse(empty(Base))


def test_they_are_written_and_come_back(purse):
    with purse:
        given = Coin("penny", 1, "York")
        stored = purse.coins.add(given)
        assert stored == attrs.evolve(given, id=stored.id) != given
        assert purse.coins.get(stored.id) == stored
        changed = purse.coins.update(attrs.evolve(stored, worth=2))
        assert purse.coins.patch(stored.id, {"_mint": None}) == attrs.evolve(changed, mint=None)
        assert purse.coins.upsert(Coin("penny", 3), on="name").entity.worth == 3


def test_they_are_asked_for(purse):
    with purse:
        purse.coins.add_many([Coin("penny", 1), Coin("pound", 240), Coin("shilling", 12, "London")])
        assert [one.name for one in purse.coins.find(c.worth > 1, order_by=desc(c.worth))] == ["pound", "shilling"]
        assert [one.worth for one in purse.coins.page(CoinQuery(worth_ge=12)).items] == [240, 12]
        assert purse.coins.find(c._mint == "London", into=Name) == [Name("shilling")]
    assert matches(c.worth > 1, Coin("pound", 240))


def test_a_row_that_a_validator_refuses_is_named_without_its_values(purse):
    with purse:
        purse.coins.add(Coin("penny", 1))
        purse.coins.update_where(everything=True, set_={"worth": -7})
        with pytest.raises(MappingError, match=r"a row of table attrs_coin .* ValueError") as caught:
            purse.coins.find()
    assert "-7" not in str(caught.value)
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_field_that_init_does_not_take_is_refused():
    @attrs.define
    class Odd:
        name: str
        worth: int
        mint: str | None = attrs.field(default=None, init=False)

    with pytest.raises(MappingError, match="init=False"):

        class Odds(BaseRepository[Odd, int]):
            model = CoinRow


def test_attrs_is_imported_by_nobody_but_its_user():
    code = "import sqlrepo, sqlrepo.memory, sys; assert 'attr' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
