"""The databases that the project's own twins run on."""

from sqlrepo.sqlalchemy import AsyncDatabase, Database
from tests.databases import servers

SYNCHRONOUS = ("sqlite", "postgresql", "mariadb")
ASYNCHRONOUS = {
    "aiosqlite": ("", "sqlite+aiosqlite"),
    "asyncpg": ("postgresql", "postgresql+asyncpg"),
    "asyncmy": ("mariadb", "mysql+asyncmy"),
}


def connect(name, directory):
    """Connect to a database of a kind of server, or by an asynchronous driver."""
    if name == "sqlite":
        return Database("sqlite://")
    if name in servers.KINDS:
        return Database(servers.made_for_tests(name, "twins"))
    server, driver = ASYNCHRONOUS[name]
    if not server:
        return AsyncDatabase(f"{driver}:///{directory}/twins.db")
    return AsyncDatabase(servers.made_for_tests(server, "twins").set(drivername=driver))
