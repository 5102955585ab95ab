"""An incident desk, declarative on PostgreSQL: full text, JSON, arrays, association tables, a schema of its own."""

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column, relationship


def now():
    return datetime.now(UTC).replace(tzinfo=None)


class SearchVector(sa.TypeDecorator):
    """A full-text column that knows which columns it is made of."""

    impl, cache_ok = postgresql.TSVECTOR, True
    comparator_factory = postgresql.TSVECTOR.Comparator

    def __init__(self, *columns, weights=()):
        super().__init__()
        self.columns, self.weights = columns, tuple(weights)


class Base(DeclarativeBase): ...


class Times:
    created_at: Mapped[datetime | None] = mapped_column(sa.DateTime, default=now)
    updated_at: Mapped[datetime | None] = mapped_column(sa.DateTime, default=now, onupdate=now)


class Resource:
    resource_type: Mapped[str | None] = mapped_column(sa.String)
    resource_id: Mapped[str | None] = mapped_column(sa.String)
    weblink: Mapped[str | None] = mapped_column(sa.String)


class Project(Base):
    __tablename__ = "project"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(sa.String, unique=True)
    is_default: Mapped[bool | None] = mapped_column(sa.Boolean, default=False)
    color: Mapped[str | None] = mapped_column(sa.String)
    pay: Mapped[int] = mapped_column(sa.Integer, default=50000, server_default="50000")
    stable: Mapped[bool] = mapped_column(sa.Boolean, server_default=sa.text("true"))
    search: Mapped[str | None] = mapped_column(SearchVector("name", weights=["A"]))


class Worker(Base, Times):
    __tablename__ = "worker"
    __table_args__ = (sa.Index("worker_search", "search", postgresql_using="gin"), {"schema": "core"})
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str | None] = mapped_column(sa.String, unique=True)
    password: Mapped[bytes] = mapped_column(sa.LargeBinary, nullable=False)
    settings: Mapped[object | None] = mapped_column(sa.JSON, default=dict)
    last_seen: Mapped[datetime | None] = mapped_column(sa.DateTime, server_default=sa.func.now())
    role: Mapped[str] = mapped_column(sa.String, server_default=sa.text("'member'::character varying"))
    search: Mapped[str | None] = mapped_column(postgresql.TSVECTOR)


class Severity(Base):
    __tablename__ = "severity"
    __table_args__ = (sa.UniqueConstraint("name", "project_id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(sa.String)
    page: Mapped[bool | None] = mapped_column(sa.Boolean, default=False)
    view_order: Mapped[int | None] = mapped_column(sa.Integer, default=9999)
    project_id: Mapped[int | None] = mapped_column(sa.ForeignKey("project.id", ondelete="CASCADE"))
    search: Mapped[str | None] = mapped_column(SearchVector("name"))


class Incident(Base, Times):
    __tablename__ = "incident"
    __table_args__ = (
        sa.Index("incident_open", "project_id", unique=True, postgresql_where=sa.text("status = 'Open'")),
        sa.Index("incident_search", "search", postgresql_using="gin"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(sa.String)
    title: Mapped[str] = mapped_column(sa.String, nullable=False)
    status: Mapped[str | None] = mapped_column(sa.String, default="Active")
    cost: Mapped[float | None] = mapped_column(sa.Float, default=0)
    reported_at: Mapped[datetime | None] = mapped_column(sa.DateTime, default=now)
    closed_at: Mapped[datetime | None] = mapped_column(sa.DateTime)
    severity_id: Mapped[int | None] = mapped_column(sa.ForeignKey("severity.id"))
    project_id: Mapped[int | None] = mapped_column(sa.ForeignKey("project.id", ondelete="CASCADE"))
    duplicate_id: Mapped[int | None] = mapped_column(sa.ForeignKey("incident.id"))
    severity: Mapped[Severity | None] = relationship()
    label = column_property(sa.func.coalesce(name, "?"))
    search: Mapped[str | None] = mapped_column(SearchVector("title", "name", weights=["A", "B"]))
    words: Mapped[str | None] = mapped_column(
        postgresql.TSVECTOR, sa.Computed("to_tsvector('english', title)", persisted=True)
    )

    @hybrid_property
    def is_closed(self):
        return self.closed_at is not None


class Signal(Base, Times):
    __tablename__ = "signal"
    id: Mapped[int] = mapped_column(primary_key=True)
    raw: Mapped[object | None] = mapped_column(postgresql.JSONB)
    external: Mapped[str | None] = mapped_column(
        postgresql.UUID(as_uuid=False), server_default=sa.text("gen_random_uuid()")
    )
    labels: Mapped[list[str] | None] = mapped_column(postgresql.ARRAY(sa.String), server_default="{}")
    numbers: Mapped[list[int]] = mapped_column(
        postgresql.ARRAY(sa.Integer), server_default=sa.text("ARRAY[]::integer[]")
    )
    incident_id: Mapped[int | None] = mapped_column(sa.ForeignKey("incident.id"))


class Filter(Base):
    __tablename__ = "filter"
    id: Mapped[int] = mapped_column(primary_key=True)
    expression: Mapped[object] = mapped_column(sa.JSON, nullable=False, default=list)
    action: Mapped[str] = mapped_column(sa.String, server_default=sa.text("'snooze'"))
    window: Mapped[int | None] = mapped_column(sa.BigInteger, default=600)
    expires: Mapped[datetime | None] = mapped_column(sa.DateTime(timezone=True), server_default=sa.text("now()"))


class Document(Base, Resource, Times):
    __tablename__ = "document"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(sa.String)
    filters: Mapped[object | None] = mapped_column(sa.JSON(none_as_null=True), server_default=sa.text("'[]'::json"))
    evergreen: Mapped[bool | None] = mapped_column(sa.Boolean, server_default=sa.text("false"))
    incident_id: Mapped[int | None] = mapped_column(sa.ForeignKey("incident.id", ondelete="CASCADE", use_alter=True))
    search: Mapped[str | None] = mapped_column(SearchVector("name"))


class Event(Base, Times):
    __tablename__ = "event"
    id: Mapped[int] = mapped_column(primary_key=True)
    uuid: Mapped[str | None] = mapped_column(postgresql.UUID(as_uuid=False), unique=True, nullable=False)
    ended_at: Mapped[datetime] = mapped_column(sa.DateTime, nullable=False)
    details: Mapped[object | None] = mapped_column(sa.JSON)
    incident_id: Mapped[int | None] = mapped_column(sa.ForeignKey("incident.id", ondelete="CASCADE"))
    worker_id: Mapped[int | None] = mapped_column(sa.ForeignKey("core.worker.id"))


class Cost(Base):
    __tablename__ = "cost"
    id: Mapped[int] = mapped_column(primary_key=True)
    amount: Mapped[object | None] = mapped_column(sa.Numeric(precision=10, scale=2), default=None)
    incident_id: Mapped[int | None] = mapped_column(sa.ForeignKey("incident.id", ondelete="CASCADE"))


class Term(Base):
    __tablename__ = "term"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str | None] = mapped_column(sa.String)
    discoverable: Mapped[bool | None] = mapped_column(sa.Boolean, default=True)
    search: Mapped[str | None] = mapped_column(postgresql.TSVECTOR)


class Pause(Base):
    __tablename__ = "pause"
    id: Mapped[int] = mapped_column(primary_key=True)
    reason: Mapped[str] = mapped_column(sa.String, nullable=False)
    period: Mapped[object] = mapped_column(postgresql.TSTZRANGE, nullable=False)


incident_terms = sa.Table(
    "incident_terms",
    Base.metadata,
    sa.Column("incident_id", sa.Integer, sa.ForeignKey("incident.id", ondelete="CASCADE")),
    sa.Column("term_id", sa.Integer, sa.ForeignKey("term.id", ondelete="CASCADE")),
    sa.PrimaryKeyConstraint("incident_id", "term_id"),
)
incident_workers = sa.Table(
    "incident_workers",
    Base.metadata,
    sa.Column("incident_id", sa.ForeignKey("incident.id")),
    sa.Column("worker_id", sa.ForeignKey("core.worker.id")),
    sa.Column("note", sa.String),
)
MODELS = [*(one.class_ for one in Base.registry.mappers), incident_terms, incident_workers]
VALUES = {"event.uuid": "00000000-0000-0000-0000-000000000007"}
