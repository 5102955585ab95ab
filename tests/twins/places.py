"""The databases that the project's own twins run on."""

from sqlrepo.sqlalchemy import AsyncDatabase, Database
from tests.databases import servers

SYNCHRONOUS = ("sqlite", "postgresql", "mariadb")
ASYNCHRONOUS = {
    "aiosqlite": ("", "sqlite+aiosqlite"),
    "asyncpg": ("postgresql", "postgresql+asyncpg"),
    "asyncmy": ("mariadb", "mysql+asyncmy"),
}


def connect(name, unit, directory=None):
    """Connect to a database for a unit of work, by the name of a server or of an asynchronous driver."""
    variant = f"twins_{unit.__name__.lower()}"
    if name == "sqlite":
        return Database("sqlite://")
    if name in servers.KINDS:
        return Database(servers.made_for_tests(name, variant))
    server, driver = ASYNCHRONOUS[name]
    if not server:
        return AsyncDatabase(f"{driver}:///{directory}/twins.db")
    return AsyncDatabase(servers.made_for_tests(server, variant).set(drivername=driver))
