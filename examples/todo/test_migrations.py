"""The migrations and the models say the same, and each step can be taken back."""

import pytest
from alembic import command

from examples.todo.migrations import configured, upgrade

on_databases = pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)


@on_databases
def test_migrations_make_what_the_models_say(url: str) -> None:
    command.check(configured(url))  # raises where `alembic revision --autogenerate` would find something to do


@on_databases
def test_migrations_go_down_and_up_again(url: str) -> None:
    command.downgrade(configured(url), "base")
    upgrade(url)
    command.check(configured(url))
