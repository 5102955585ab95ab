"""The databases that the project's own twins run on."""

from sqlrepo.sqlalchemy import AsyncDatabase, Database
from tests.databases import servers

SYNCHRONOUS = ("sqlite", *servers.KINDS)


def connect(name, unit, directory=None):
    """Connect to a database for a unit of work, by the name of a server, or with that of an asynchronous driver."""
    variant = f"twins_{unit.__name__.lower()}"
    if name == "sqlite":
        return Database("sqlite://")
    if name == "sqlite+aiosqlite":
        return AsyncDatabase(f"sqlite+aiosqlite:///{directory}/twins.db")
    return (Database if name in servers.KINDS else AsyncDatabase)(servers.made_for_tests(name, variant))
