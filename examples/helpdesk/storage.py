"""The repositories of the help desk: each tenant sees its own rows, and nobody sees deleted tickets."""

from typing import Generic, TypeVar

from examples.helpdesk.domain import (
    Caller,
    Comment,
    Owned,
    Project,
    Star,
    Tag,
    Team,
    Ticket,
    User,
    e,
    owned,
    t,
)
from examples.helpdesk.tables import (
    CommentRow,
    ProjectRow,
    StarRow,
    TagRow,
    TeamRow,
    TicketRow,
    UserRow,
    ticket_tags,
)
from sqlrepo import AsyncBaseRepository, AsyncBaseUnitOfWork, HasMany, NotFoundError, in_, not_

T = TypeVar("T", bound=Owned)
K = TypeVar("K")


class OwnedRows(AsyncBaseRepository[T, K], Generic[T, K]):
    """The rows of the caller's tenant."""

    def scope(self) -> bool:
        caller: Caller = self.context
        return owned.tenant_id == caller.tenant_id

    async def require(self, *ids: int | None) -> None:
        """Raise an error unless the caller can see the rows with these ids; None is no id."""
        wanted = set(ids) - {None}
        if wanted and await self.count(in_(e.id, wanted)) < len(wanted):
            raise NotFoundError(type(self), ids)


class Teams(OwnedRows[Team, int]):
    model = TeamRow


class Users(OwnedRows[User, int]):
    model = UserRow


class Projects(OwnedRows[Project, int]):
    model = ProjectRow


class Tags(OwnedRows[Tag, int]):
    model = TagRow


class Tickets(OwnedRows[Ticket, int]):
    model = TicketRow
    parts = {"tag_ids": HasMany(ticket_tags, value="tag_id")}

    def scope(self) -> bool:
        return super().scope() & not_(t.deleted)

    def write_scope(self) -> bool:
        return super().scope()  # a ticket may be deleted, but not given to another tenant

    async def hide(self, id: int) -> None:
        if not await self.update_where(id=id, set_={"deleted": True}):
            raise NotFoundError(Ticket, id)


class Comments(OwnedRows[Comment, int]):
    model = CommentRow


class Stars(OwnedRows[Star, tuple[int, int]]):
    model = StarRow


class HelpDesk(AsyncBaseUnitOfWork[Caller]):
    teams: Teams
    users: Users
    projects: Projects
    tags: Tags
    tickets: Tickets
    comments: Comments
    stars: Stars
