"""Our own tests use the contract as any user would, its report included; and what all tests have in common, servers."""

from typing import Any

import pytest

from tests.databases import servers

pytest_plugins = ["sqlrepo.testing.plugin"]


def pytest_configure() -> None:
    """Name this run's databases, before workers are started that will have some each."""
    servers.run()


def pytest_report_header() -> list[str]:
    """Tell which servers take part."""
    return [servers.described(name) for name in ("postgresql", "mariadb", "mysql")]


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run on MySQL, if there is one, whatever runs on MariaDB: parameters of tests and of fixtures alike."""
    parametrize = metafunc.parametrize

    def on_mysql_too(names: Any, values: Any, *rest: Any, ids: Any = None, **options: Any) -> None:
        values, ids = servers.with_mysql(values, ids)
        parametrize(names, values, *rest, ids=ids, **options)

    metafunc.parametrize = on_mysql_too


def pytest_unconfigure() -> None:
    """Drop the databases."""
    servers.ENDED.close()


@pytest.fixture(scope="session")
def postgresql_url() -> str:
    """A database for the tests of examples/todo, which know nothing of how ours come by servers."""
    return servers.made_for_tests("postgresql", "example").render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def helpdesk_postgresql_url() -> str:
    """The same for examples/helpdesk: the migrations of the other example expect a database of their own."""
    return servers.made_for_tests("postgresql", "helpdesk_example").render_as_string(hide_password=False)
