"""Units of work at the edges: ends of types, references checked at the end, stored forms, names of options, aliases."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal

import sqlalchemy as sa
from pydantic import AliasChoices, BaseModel, Field
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from sqlrepo import BaseRepository, BaseUnitOfWork, QueryObject
from sqlrepo.sqlalchemy.types import BigKey, Bytes, Duration, Exact, Float64, Instant, LocalDateTime, Text, TimeOfDay


class Base(DeclarativeBase): ...


# -- the ends of each type: no column takes NULL, and the key is the caller's


@dataclass
class Limit:
    id: int
    small: int
    number: int
    big: int
    whole: Decimal
    part: Decimal
    digit: Decimal
    letter: str
    text: str
    byte: bytes
    blob: bytes
    ratio: float
    day: date
    clock: time
    local: datetime
    moment: datetime
    span: timedelta


class LimitRow(Base):
    __tablename__ = "type_limit"
    id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    small: Mapped[int] = mapped_column(sa.SmallInteger)
    number: Mapped[int] = mapped_column(unique=True)
    big: Mapped[int] = mapped_column(sa.BigInteger)
    whole: Mapped[Decimal] = mapped_column(Exact(18, 0))
    part: Mapped[Decimal] = mapped_column(Exact(18, 18))
    digit: Mapped[Decimal] = mapped_column(Exact(1, 0))
    letter: Mapped[str] = mapped_column(Text(1))
    text: Mapped[str] = mapped_column(Text(255))
    byte: Mapped[bytes] = mapped_column(Bytes(1))
    blob: Mapped[bytes] = mapped_column(Bytes(255))
    ratio: Mapped[float] = mapped_column(Float64())
    day: Mapped[date]
    clock: Mapped[time] = mapped_column(TimeOfDay())
    local: Mapped[datetime] = mapped_column(LocalDateTime())
    moment: Mapped[datetime] = mapped_column(Instant())
    span: Mapped[timedelta] = mapped_column(Duration())


class LimitQuery(QueryObject[Limit]):
    small_between: tuple[int, int] | None = None
    big_ge: int | None = None
    whole_lt: Decimal | None = None
    ratio_gt: float | None = None
    text_startswith: str | None = None
    local_le: datetime | None = None
    moment_gt: datetime | None = None
    order_by: Literal["big", "-whole", "part,-big", "-text", "blob", "ratio", "local", "-moment", "span", "-clock"] = (
        "big"
    )
    limit: int = 2


class Limits(BaseRepository[Limit, int]):
    model = LimitRow


class Edges(BaseUnitOfWork):
    limits: Limits


# -- foreign keys that are checked when the transaction ends, or could be: in a circle, and with actions


class Team(BaseModel):
    id: int
    name: str
    captain_id: int | None = None


class Player(BaseModel):
    id: int
    team_id: int
    mentor_id: int | None = None


class Medal(BaseModel):
    id: int
    player_id: int | None = None
    team_id: int | None = None


class TeamRow(Base):
    __tablename__ = "team"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(Text(10), unique=True)
    captain_id: Mapped[int | None] = mapped_column(
        sa.ForeignKey("player.id", name="fk_captain", deferrable=True, initially="DEFERRED", use_alter=True)
    )


class PlayerRow(Base):
    __tablename__ = "player"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    team_id: Mapped[int] = mapped_column(
        sa.ForeignKey("team.id", name="fk_team", deferrable=True, initially="DEFERRED", ondelete="CASCADE")
    )
    mentor_id: Mapped[int | None] = mapped_column(
        sa.ForeignKey("player.id", name="fk_mentor", deferrable=True, initially="DEFERRED")
    )


class MedalRow(Base):
    __tablename__ = "medal"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    player_id: Mapped[int | None] = mapped_column(
        sa.ForeignKey("player.id", name="fk_winner", deferrable=True, initially="IMMEDIATE", ondelete="SET NULL")
    )
    team_id: Mapped[int | None] = mapped_column(
        sa.ForeignKey("team.id", name="fk_winners", deferrable=True, initially="DEFERRED", ondelete="RESTRICT")
    )


class PlayerQuery(QueryObject[Player]):
    team_id: int | None = None
    mentor_id_is_null: bool | None = None
    limit: int = 3


class Teams(BaseRepository[Team, int]):
    model = TeamRow


class Players(BaseRepository[Player, int]):
    model = PlayerRow


class Medals(BaseRepository[Medal, int]):
    model = MedalRow


@sa.event.listens_for(Base.metadata, "before_create")
def _keep_references(metadata, connection, **_):
    """Undo what SQLAlchemy notes where it adds a foreign key by ALTER: that CREATE TABLE leaves it out from then on."""
    if not connection.dialect.supports_alter:
        for constraint in (one for table in metadata.tables.values() for one in table.foreign_key_constraints):
            constraint._create_rule = None


class League(BaseUnitOfWork):
    teams: Teams
    players: Players
    medals: Medals


# -- decorators that store another form of a value: the key, a unique column, one that stores NULL


class Lowered(TypeDecorator[str]):
    impl = sa.String
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        return dialect.type_descriptor(Text(self.impl.length).dialect_impl(dialect))  # type: ignore[attr-defined]

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else value.lower()


class Stripped(Lowered):
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else value.strip()


class EmptyIsNull(Lowered):
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return value or None


class NullIsEmpty(EmptyIsNull):
    """Reads what it has stored as NULL back as it was."""

    cache_ok = True

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return value or ""


class Whole(TypeDecorator[int]):
    """Stores a number without its last digit."""

    impl = sa.Integer
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: sa.Dialect) -> int | None:
        return None if value is None else value // 10 * 10


class NoneIsZero(TypeDecorator[int | None]):
    """Stores None as a value, so that the column has no NULL."""

    impl = sa.Integer
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: sa.Dialect) -> int:
        return value or 0

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> int | None:
        return value or None


class Member(BaseModel):
    login: str
    email: str
    phone: str | None = None
    nickname: str = ""
    name: str = ""
    points: int | None = None
    rank: int | None = None
    level: int | None = None


class MemberRow(Base):
    __tablename__ = "club_member"
    login: Mapped[str] = mapped_column(Lowered(20), primary_key=True)
    email: Mapped[str] = mapped_column(Stripped(20), unique=True)
    phone: Mapped[str | None] = mapped_column(EmptyIsNull(20), unique=True)
    nickname: Mapped[str | None] = mapped_column(NullIsEmpty(20))
    name: Mapped[str] = mapped_column(EmptyIsNull(20))
    points: Mapped[int | None] = mapped_column(Whole())
    rank: Mapped[int | None] = mapped_column(NoneIsZero())
    level: Mapped[int] = mapped_column(NoneIsZero(), unique=True)


class MemberQuery(QueryObject[Member]):
    login_in: list[str] | None = None
    email: str | None = None
    email_startswith: str | None = None
    phone_is_null: bool | None = None
    nickname: str | None = None
    name_ne: str | None = None
    points_le: int | None = None
    order_by: Literal["login", "-email", "phone,nickname", "-nickname", "points", "rank", "-level"] = "login"
    limit: int = 2


class Members(BaseRepository[Member, str]):
    model = MemberRow


class Club(BaseUnitOfWork):
    members: Members


# -- fields with the names of options, and filters with aliases


class Knob(BaseModel):
    id: int | None = None
    limit: int = 0
    offset: int | None = None
    order_by: str = ""
    lock: str | None = None
    into: bool = False
    with_total: bool | None = None
    set_: int = 0
    everything: bool = False
    on: str = ""
    update: str | None = None
    key: int = 0
    after: date | None = None
    before: date | None = None


class KnobRow(Base):
    __tablename__ = "knob"
    id: Mapped[int] = mapped_column(BigKey(), primary_key=True)
    limit: Mapped[int]
    offset: Mapped[int | None]
    order_by: Mapped[str] = mapped_column(Text(10))
    lock: Mapped[str | None] = mapped_column(Text(10))
    into: Mapped[bool]
    with_total: Mapped[bool | None]
    set_: Mapped[int]
    everything: Mapped[bool]
    on: Mapped[str] = mapped_column(Text(10))
    update: Mapped[str | None] = mapped_column(Text(10))
    key: Mapped[int] = mapped_column(unique=True)
    after: Mapped[date | None]
    before: Mapped[date | None]


class KnobQuery(QueryObject[Knob]):
    limit_ge: int | None = Field(default=None, alias="from")
    offset_is_null: bool | None = Field(default=None, validation_alias="noOffset")
    order_by_contains: str | None = Field(default=None, validation_alias=AliasChoices("sort", "sorting"))
    into: bool | None = Field(default=None, alias="as")
    on_in: list[str] | None = Field(default=None, alias="on[]")
    key_lt: int | None = None
    order_by: Literal["limit", "-offset", "order_by,-lock", "-after"] | None = None
    limit: int = 2


class Knobs(BaseRepository[Knob, int]):
    model = KnobRow


class Panel(BaseUnitOfWork):
    knobs: Knobs
