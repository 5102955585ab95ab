"""Servers for the tests: one given by URL, one that listens on this machine, or one in a container; else a skip.

``SQLREPO_TEST_POSTGRESQL_URL``, ``SQLREPO_TEST_MARIADB_URL`` and ``SQLREPO_TEST_MYSQL_URL`` name servers, as do the
variables of the tool that brings the newest ones, ``SQLREPO_NEWEST_POSTGRESQL_URL`` and ``SQLREPO_NEWEST_MYSQL_URL``;
with ``SQLREPO_TEST_LOCAL=1`` the standard port is tried, MySQL's for MariaDB; ``SQLREPO_TEST_CONTAINERS=0`` starts no
container; ``SQLREPO_TEST_REQUIRE=postgresql,mariadb,mysql`` turns a skip into a failure. Every test process has
databases of its own there, called ``sqlrepo_test_…``, and drops them at its end.

Whatever runs on MariaDB runs on MySQL too (`with_mysql`). Where no MySQL is to be had, those tests are not collected,
for they would all be skipped; the header says so.
"""

import gc
import os
import socket
import warnings
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from itertools import repeat
from operator import is_
from pathlib import Path

import pytest
import sqlalchemy as sa

ENDED = ExitStack()
PARAMETERS = type(pytest.param())


@dataclass(frozen=True)
class Kind:
    """How to find a server, and how its databases are made."""

    name: str
    local: str  # where one may listen on this machine
    port: int
    image: str
    options: dict = field(default_factory=dict)  # of CREATE DATABASE, by what is asked for

    def variable(self, what):
        return os.environ.get(f"SQLREPO_TEST_{self.name.upper()}_{what}")

    @property
    def url(self):
        """The URL of a server that needs no container."""
        given = self.variable("URL") or os.environ.get(f"SQLREPO_NEWEST_{self.name.upper()}_URL")
        tried = self.local and os.environ.get("SQLREPO_TEST_LOCAL") == "1"
        return given or (self.local if tried and listening(self.port) else None)

    @property
    def is_required(self):
        return self.name in os.environ.get("SQLREPO_TEST_REQUIRE", "").split(",")

    @property
    def may_exist(self):
        engine = os.environ.get("DOCKER_HOST") or Path("/var/run/docker.sock").exists()
        return self.url or self.is_required or (engine and os.environ.get("SQLREPO_TEST_CONTAINERS") != "0")


KINDS = {
    "postgresql": Kind(
        "postgresql",
        "postgresql+psycopg://postgres@127.0.0.1:5432/postgres",
        5432,
        "postgres:15",
        {
            "": "TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'",
            # A dictionary's order by default, as most installations have it.
            "usual": "TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LOCALE 'C'",
        },
    ),
    "mariadb": Kind(
        "mariadb",
        "mysql+pymysql://root@127.0.0.1:3306/",
        3306,
        "mariadb:10.11",
        {
            "": "CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin",
            # Neither case nor accents nor trailing blanks by default, as most installations have it.
            "usual": "CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
        },
    ),
    "mysql": Kind(
        "mysql",
        "",
        3306,
        "mysql:8.4",
        {
            "": "CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin",
            # Neither case nor accents by default, as most installations have it.
            "usual": "CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci",
        },
    ),
}


def listening(port):
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0


if not KINDS["mysql"].may_exist:
    del KINDS["mysql"]


def with_mysql(values, ids=None):
    """Parameters of tests with their ids; behind each that begins with "mariadb" the same for MySQL, if there is one.

    "mariadb+asyncmy" is a driver, "mariadb-usual" a database, "mariadb REPEATABLE READ" an isolation.
    """
    values, named = list(values), ids is not None and not callable(ids)
    known = {name for name in map(_name, values) if name}
    found = []
    for value, name in zip(values, ids if named else repeat(None), strict=False):
        twin = _for_mysql(value)
        is_new = "mysql" in KINDS and twin is not value and _name(twin) not in known
        twin_name = name.replace("mariadb", "mysql") if isinstance(name, str) else name
        found += [(value, name), *[(twin, twin_name)] * is_new]
    return [value for value, _ in found], [name for _, name in found] if named else ids


def _name(value):
    if isinstance(value, PARAMETERS) and len(value.values) == 1:
        return _name(value.values[0])
    return value if isinstance(value, str) else None


def _for_mysql(value):
    """The same for MySQL; the value itself if it has nothing to do with MariaDB."""
    if isinstance(value, str):
        return f"mysql{value.removeprefix('mariadb')}" if value.startswith("mariadb") else value
    if not isinstance(value, tuple):
        return value
    parts = value.values if isinstance(value, PARAMETERS) else value
    twins = tuple(map(_for_mysql, parts))
    if all(map(is_, parts, twins)):
        return value
    return pytest.param(*twins, marks=value.marks, id=_for_mysql(value.id)) if isinstance(value, PARAMETERS) else twins


def in_container(kind):
    """Start a server; the names of the images can be given, the official ones are the default."""
    image = kind.variable("IMAGE") or kind.image
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # a client that finds no engine forgets its socket
        found = started(kind, image)
        gc.collect()
    return found


def started(kind, image):
    try:
        if kind.name == "postgresql":
            from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415

            container = PostgresContainer(image, driver="psycopg")
        else:
            from testcontainers.community.mysql import MySqlContainer  # noqa: PLC0415

            container = MySqlContainer(image, dialect="pymysql", username="root")
        container.start()
    except Exception as error:  # noqa: BLE001  # no engine, no image, no network: whatever it is, there is no server
        return None, f"no container: {type(error).__name__}"
    ENDED.callback(container.stop)
    return container.get_connection_url(), ""


@cache
def server(name):
    """The URL of a server; or none, and why."""
    kind = KINDS[name]
    if kind.url:
        return kind.url, ""
    allowed = os.environ.get("SQLREPO_TEST_CONTAINERS") != "0"
    url, reason = in_container(kind) if allowed else (None, "no container: SQLREPO_TEST_CONTAINERS=0")
    return url, f"no SQLREPO_TEST_{name.upper()}_URL, nothing local (SQLREPO_TEST_LOCAL=1), {reason}"


def described(name):
    """What is known of a server without starting one, for the header."""
    if name not in KINDS:
        return f"{name}: no SQLREPO_TEST_{name.upper()}_URL, so tests on MariaDB are not repeated there"
    kind, url = KINDS[name], KINDS[name].url
    last = "skipped" if os.environ.get("SQLREPO_TEST_CONTAINERS") == "0" else "a container, or skipped"
    where = f"{sa.make_url(url).host}:{sa.make_url(url).port or kind.port}" if url else last
    return f"{name}: {where}, databases sqlrepo_test_{run()}_…"


def product(engine):
    """What an engine is connected to, such as "MySQL 9.7.0"."""
    with engine.connect() as connection:
        dialect = connection.dialect
    kind = "mariadb" if getattr(dialect, "is_mariadb", False) else dialect.name
    name = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mariadb": "MariaDB", "mysql": "MySQL"}[kind]
    return f"{name} {'.'.join(map(str, dialect.server_version_info[:3]))}"


def run():
    """What the databases of this run of the tests have in common."""
    return os.environ.setdefault("SQLREPO_TEST_RUN", str(os.getpid()))


def made_for_tests(name, variant=""):
    """The URL of a database of this process, with "usual" as servers make them; "mariadb+asyncmy" has a driver."""
    kind, _, driver = name.partition("+")
    return through(driver, _made(kind, variant))


def through(driver, url):
    return url.set(drivername=f"{url.get_backend_name()}+{driver}") if driver else url


@cache
def _made(name, variant):
    url, reason = server(name)
    if url is None:
        (pytest.fail if KINDS[name].is_required else pytest.skip)(f"{name}: {reason}")
    database = "_".join(filter(None, ("sqlrepo_test", run(), os.environ.get("PYTEST_XDIST_WORKER"), variant)))
    options = KINDS[name].options["usual" if variant.endswith("usual") else ""]
    admin = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    execute(admin, f"DROP DATABASE IF EXISTS {database}", f"CREATE DATABASE {database} {options}")
    force = " WITH (FORCE)" if name == "postgresql" else ""
    ENDED.callback(execute, admin, f"DROP DATABASE IF EXISTS {database}{force}")
    return sa.make_url(url).set(database=database)


def execute(engine, *statements):
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


class Tables:
    """The tables of one base class in a test database: made once, by `make` if given, emptied before each test."""

    def __init__(self, url, base, make=None):
        self.url = url
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        quoted = engine.dialect.identifier_preparer.format_table
        self.names = {table.name: quoted(table) for table in reversed(base.metadata.sorted_tables)}
        if make is None:
            base.metadata.create_all(engine)
        else:
            make(url.render_as_string(hide_password=False))
        self.connection = ENDED.enter_context(engine.connect())  # a new one for each test costs more than the emptying
        self.is_postgresql = engine.dialect.name == "postgresql"
        patience = "lock_timeout = '5s'" if self.is_postgresql else "lock_wait_timeout = 5, foreign_key_checks = 0"
        self.run(f"SET {patience}")
        if not self.is_postgresql and not engine.dialect.is_mariadb:
            self.run("SET information_schema_stats_expiry = 0")  # for the numbers given out as they are

    def run(self, statement):
        return self.connection.exec_driver_sql(statement)

    def empty(self):
        """Empty them; numbers begin at one again. TRUNCATE would take ten to a hundred times as long."""
        if self.is_postgresql:
            numbers = "SELECT setval(oid::regclass, 1, false) FROM pg_class WHERE relkind = 'S'"
            self.run("; ".join([*(f"DELETE FROM {name}" for name in self.names.values()), numbers]))
            return
        for name in self.used():
            self.run(f"TRUNCATE {self.names[name]}")

    def used(self):
        """Those that hold rows, or have given out numbers."""
        numbered = self.run(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND auto_increment > 1"
        )
        filled = self.run(
            " UNION ALL ".join(f"(SELECT '{name}' FROM {quoted} LIMIT 1)" for name, quoted in self.names.items())
        )
        return {name for (name,) in [*numbered, *filled]} & self.names.keys()  # other classes' tables may be here too


def emptied(name, base, variant="", make=None):
    """The URL of a test database in which the tables of a base class are, and nothing in them; one for each class."""
    kind, _, driver = name.partition("+")
    tables = _tables(kind, base, variant, make)
    tables.empty()
    return through(driver, tables.url)


@cache
def _tables(name, base, variant, make):
    area = base.__module__.split(".")[-2]
    return Tables(made_for_tests(name, f"{area}_{variant}".strip("_")), base, make)
