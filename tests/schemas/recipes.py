"""A recipe keeper, declarative: UUIDs over CHAR, naive clocks, JSON, association tables without a key."""

import enum
import uuid
from datetime import UTC, date, datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.associationproxy import association_proxy
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, synonym, validates


class Guid(sa.TypeDecorator):
    """UUID on PostgreSQL, 32 hexadecimal digits elsewhere."""

    impl, cache_ok, python_type = sa.CHAR, True, uuid.UUID

    def load_dialect_impl(self, dialect):
        return dialect.type_descriptor(postgresql.UUID() if dialect.name == "postgresql" else sa.CHAR(32))

    def process_bind_param(self, value, dialect):
        if value is None:
            return None
        given = value if isinstance(value, uuid.UUID) else uuid.UUID(value)
        return str(given) if dialect.name == "postgresql" else given.hex

    def process_result_value(self, value, dialect):
        return value if value is None or isinstance(value, uuid.UUID) else uuid.UUID(value)


class Clock(sa.TypeDecorator):
    """Stored in UTC without its zone."""

    impl, cache_ok = sa.DateTime, True

    def process_bind_param(self, value, dialect):
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value, dialect):
        return None if value is None else value.replace(tzinfo=UTC)


def now():
    return datetime.now(UTC)


class Base(DeclarativeBase):
    created_at: Mapped[datetime | None] = mapped_column(Clock, default=now, index=True)
    updated_at: Mapped[datetime | None] = mapped_column(Clock, default=now, onupdate=now)


class Slot(enum.Enum):
    MORNING = "morning"
    EVENING = "evening"


class Circle(Base):
    __tablename__ = "circles"
    id: Mapped[uuid.UUID] = mapped_column(Guid, primary_key=True, default=uuid.uuid4)
    name: Mapped[str] = mapped_column(sa.String, index=True, nullable=False, unique=True)
    slug: Mapped[str | None] = mapped_column(sa.String, index=True, unique=True)
    homes: Mapped[list["Home"]] = relationship(back_populates="circle", cascade="all, delete-orphan")


class Home(Base):
    __tablename__ = "homes"
    __table_args__ = (
        sa.UniqueConstraint("circle_id", "name", name="home_name_circle"),
        sa.UniqueConstraint("circle_id", "slug", name="home_slug_circle"),
    )
    id: Mapped[uuid.UUID] = mapped_column(Guid, primary_key=True, default=uuid.uuid4)
    name: Mapped[str] = mapped_column(sa.String, index=True)
    slug: Mapped[str | None] = mapped_column(sa.String, index=True)
    circle_id: Mapped[uuid.UUID] = mapped_column(Guid, sa.ForeignKey("circles.id"), nullable=False, index=True)
    circle: Mapped[Circle] = relationship(back_populates="homes")


class Preferences(Base):
    __tablename__ = "preferences"
    id: Mapped[uuid.UUID] = mapped_column(Guid, primary_key=True, default=uuid.uuid4)
    home_id: Mapped[uuid.UUID | None] = mapped_column(Guid, sa.ForeignKey("homes.id"), nullable=False, unique=True)
    private: Mapped[bool | None] = mapped_column(sa.Boolean, default=True)
    first_weekday: Mapped[int | None] = mapped_column(sa.Integer, default=0)
    public_by_default: Mapped[bool] = mapped_column(sa.Boolean, server_default=sa.sql.expression.false())


class Member(Base):
    __tablename__ = "members"
    id: Mapped[uuid.UUID] = mapped_column(Guid, primary_key=True, default=uuid.uuid4)
    full_name: Mapped[str | None] = mapped_column(sa.String, index=True)
    email: Mapped[str | None] = mapped_column(sa.String, unique=True, index=True)
    admin: Mapped[bool | None] = mapped_column(sa.Boolean, default=False)
    method: Mapped[Slot] = mapped_column(sa.Enum(Slot), default=Slot.MORNING)
    attempts: Mapped[int | None] = mapped_column(sa.Integer, default=0)
    locked_at: Mapped[datetime | None] = mapped_column(Clock, default=None)
    cache_key: Mapped[str | None] = mapped_column(sa.String, default="1234")
    home_id: Mapped[uuid.UUID] = mapped_column(Guid, sa.ForeignKey("homes.id"), nullable=False, index=True)
    home: Mapped[Home] = relationship()
    username: Mapped[str | None] = mapped_column(sa.String, index=True, unique=True)
    login = synonym("username")
    circle = association_proxy("home", "circle")

    @hybrid_property
    def is_locked(self):
        return self.locked_at is not None


class Token(Base):
    __tablename__ = "tokens"
    id: Mapped[int] = mapped_column(sa.Integer, primary_key=True)
    name: Mapped[str] = mapped_column(sa.String, nullable=False)
    token: Mapped[str] = mapped_column(sa.String, nullable=False, unique=True)
    member_id: Mapped[uuid.UUID | None] = mapped_column(Guid, sa.ForeignKey("members.id"), index=True)


class Recipe(Base):
    __tablename__ = "recipes"
    __table_args__ = (
        sa.UniqueConstraint("slug", "circle_id", name="recipe_slug_circle"),
        sa.Index("ix_recipes_name_folded", "name_folded", unique=False),
        sa.Index(
            "ix_recipes_name_gin",
            "name_folded",
            postgresql_using="gin",
            postgresql_ops={"name_folded": "gin_trgm_ops"},
        ),
    )
    id: Mapped[uuid.UUID] = mapped_column(Guid, primary_key=True, default=uuid.uuid4)
    slug: Mapped[str | None] = mapped_column(sa.String, index=True)
    circle_id: Mapped[uuid.UUID] = mapped_column(Guid, sa.ForeignKey("circles.id"), nullable=False, index=True)
    member_id: Mapped[uuid.UUID | None] = mapped_column(Guid, sa.ForeignKey("members.id", use_alter=True), index=True)
    name: Mapped[str] = mapped_column(sa.String, nullable=False)
    description: Mapped[str | None] = mapped_column(sa.String)
    servings: Mapped[float | None] = mapped_column(sa.Float, default=0)
    rating: Mapped[float | None] = mapped_column(sa.Float, index=True, nullable=True)
    added: Mapped[date | None] = mapped_column(sa.Date, default=date.today)
    is_ocr: Mapped[bool | None] = mapped_column(sa.Boolean, default=False)
    made_at: Mapped[datetime | None] = mapped_column(Clock)
    name_folded: Mapped[str] = mapped_column(sa.String, nullable=False, default="")
    steps: Mapped[list["Step"]] = relationship(order_by="Step.position", cascade="all, delete-orphan")

    @validates("name")
    def fold(self, _, name):
        self.name_folded = name.lower()
        return name


class Step(Base):
    __tablename__ = "steps"
    id: Mapped[uuid.UUID] = mapped_column(Guid, primary_key=True, default=uuid.uuid4)
    recipe_id: Mapped[uuid.UUID | None] = mapped_column(Guid, sa.ForeignKey("recipes.id"), index=True)
    position: Mapped[int | None] = mapped_column(sa.Integer, index=True)
    title: Mapped[str | None] = mapped_column(sa.String)
    text: Mapped[str | None] = mapped_column(sa.Text)


class Food(Base):
    __tablename__ = "foods"
    __table_args__ = (sa.UniqueConstraint("name", "circle_id", name="food_name_circle"),)
    id: Mapped[uuid.UUID] = mapped_column(Guid, primary_key=True, default=uuid.uuid4)
    circle_id: Mapped[uuid.UUID] = mapped_column(Guid, sa.ForeignKey("circles.id"), nullable=False, index=True)
    name: Mapped[str | None] = mapped_column(sa.String)
    on_hand: Mapped[bool | None] = mapped_column(sa.Boolean, default=False)
    names: Mapped[object | None] = mapped_column(sa.JSON)


class Ingredient(Base):
    __tablename__ = "ingredients"
    id: Mapped[int] = mapped_column(sa.Integer, primary_key=True)
    recipe_id: Mapped[uuid.UUID | None] = mapped_column(Guid, sa.ForeignKey("recipes.id"), index=True)
    food_id: Mapped[uuid.UUID | None] = mapped_column(Guid, sa.ForeignKey("foods.id"), index=True)
    quantity: Mapped[float | None] = mapped_column(sa.Float)
    reference_id: Mapped[uuid.UUID | None] = mapped_column(Guid)


class Extra(Base):
    __tablename__ = "extras"
    id: Mapped[int] = mapped_column(sa.Integer, primary_key=True)
    recipe_id: Mapped[uuid.UUID | None] = mapped_column(Guid, sa.ForeignKey("recipes.id"), index=True)
    key_name: Mapped[str | None] = mapped_column(sa.String)
    value: Mapped[str | None] = mapped_column(sa.String)


class Plan(Base):
    __tablename__ = "plans"
    id: Mapped[int] = mapped_column(sa.Integer, primary_key=True)
    day: Mapped[date] = mapped_column(sa.Date, index=True, nullable=False)
    slot: Mapped[Slot] = mapped_column(sa.Enum(Slot, native_enum=False, create_constraint=True), index=True)
    recipe_id: Mapped[uuid.UUID | None] = mapped_column(Guid, sa.ForeignKey("recipes.id"), index=True)
    circle_id: Mapped[uuid.UUID | None] = mapped_column(Guid, sa.ForeignKey("circles.id"), index=True)


class Report(Base):
    __tablename__ = "reports"
    id: Mapped[uuid.UUID] = mapped_column(Guid, primary_key=True, default=uuid.uuid4)
    name: Mapped[str] = mapped_column(sa.String, nullable=False)
    success: Mapped[bool | None] = mapped_column(sa.Boolean, default=False)
    entries: Mapped[object | None] = mapped_column(sa.JSON, default=dict)
    made_at: Mapped[datetime] = mapped_column(sa.DateTime, nullable=False, server_default=sa.func.now())


member_favorites = sa.Table(
    "member_favorites",
    Base.metadata,
    sa.Column("member_id", Guid, sa.ForeignKey("members.id"), index=True),
    sa.Column("recipe_id", Guid, sa.ForeignKey("recipes.id"), index=True),
    sa.UniqueConstraint("member_id", "recipe_id", name="favorite_once"),
)
recipes_to_tags = sa.Table(
    "recipes_to_tags",
    Base.metadata,
    sa.Column("recipe_id", Guid, sa.ForeignKey("recipes.id"), index=True),
    sa.Column("tag", sa.String(40), index=True),
)
MODELS = [*(one.class_ for one in Base.registry.mappers), member_favorites, recipes_to_tags]
MOMENT = datetime(2025, 3, 1, 12, tzinfo=UTC)
VALUES = {"plans.slot": Slot.EVENING, "recipes.made_at": MOMENT, "members.locked_at": MOMENT}
