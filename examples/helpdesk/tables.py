"""The tables of the help desk, as ordinary declarative models."""

from datetime import datetime

from sqlalchemy import Column, ForeignKey, Index, Table, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from sqlrepo.sqlalchemy import types


class Base(DeclarativeBase):
    """The tables of this application."""

    type_annotation_map = {str: types.Text(200), datetime: types.Instant()}


class TeamRow(Base):
    """A team of a tenant."""

    __tablename__ = "team"
    __table_args__ = (UniqueConstraint("tenant_id", "name"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[int]
    name: Mapped[str]


class UserRow(Base):
    """Somebody who works on tickets."""

    __tablename__ = "user_account"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[int]
    team_id: Mapped[int] = mapped_column(ForeignKey("team.id"))
    name: Mapped[str]


class ProjectRow(Base):
    """What tickets are about."""

    __tablename__ = "project"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[int]
    team_id: Mapped[int] = mapped_column(ForeignKey("team.id"))
    name: Mapped[str]


class TagRow(Base):
    """A word on tickets."""

    __tablename__ = "tag"
    __table_args__ = (UniqueConstraint("tenant_id", "name"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[int]
    name: Mapped[str]


ticket_tags = Table(
    "ticket_tag",
    Base.metadata,
    Column("ticket_id", ForeignKey("ticket.id", ondelete="CASCADE"), primary_key=True),
    Column("tag_id", ForeignKey("tag.id"), primary_key=True, index=True),
)


class TicketRow(Base):
    """A ticket; a deleted one stays, and is not shown."""

    __tablename__ = "ticket"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[int]
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), index=True)
    assignee_id: Mapped[int | None] = mapped_column(ForeignKey("user_account.id"), index=True)
    title: Mapped[str]
    body: Mapped[str] = mapped_column(types.Text(4000))
    status: Mapped[str] = mapped_column(types.Text(20))
    priority: Mapped[int]
    created_at: Mapped[datetime]
    deleted: Mapped[bool]
    version: Mapped[int] = mapped_column()
    project: Mapped[ProjectRow] = relationship()
    assignee: Mapped[UserRow | None] = relationship()
    tags: Mapped[list[TagRow]] = relationship(secondary=ticket_tags, order_by=TagRow.id)
    comments: Mapped[list["CommentRow"]] = relationship(order_by="CommentRow.id")

    __mapper_args__ = {"version_id_col": version}
    __table_args__ = (Index("ix_ticket_tenant_id_created_at", "tenant_id", "created_at"),)


class CommentRow(Base):
    """What somebody says about a ticket."""

    __tablename__ = "comment"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[int]
    ticket_id: Mapped[int] = mapped_column(ForeignKey("ticket.id", ondelete="CASCADE"), index=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"))
    body: Mapped[str] = mapped_column(types.Text(4000))
    created_at: Mapped[datetime]
    author: Mapped[UserRow] = relationship()


class StarRow(Base):
    """A ticket that somebody follows."""

    __tablename__ = "star"
    ticket_id: Mapped[int] = mapped_column(ForeignKey("ticket.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"), primary_key=True)
    tenant_id: Mapped[int]
