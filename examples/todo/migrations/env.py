"""Alembic runs this for each of its commands: which database, which tables, in which transaction."""

import logging

from alembic import context

from examples.todo.storage import Base, database_url
from sqlrepo.sqlalchemy import Database

config = context.config
url: str = config.attributes.get("url") or database_url()
if config.cmd_opts:  # on the command line it tells what it does; within a program, logging is the program's
    logging.basicConfig(level=logging.INFO, format="%(message)s")


def write() -> None:
    """Prints the SQL (`alembic upgrade head --sql`), for those whose databases are changed by somebody else."""
    context.configure(url=url, target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


def run() -> None:
    """Runs the command; a migration that fails leaves nothing behind where a database can undo CREATE and ALTER."""
    db = Database(url)  # as the application has it: on SQLite too a transaction begins where it should
    try:
        with db.engine.connect() as connection:
            # SQLite can change little of a table; `batch` makes it anew, moves the rows, and drops the old one. That
            # must not count as deleting them, and take with it what refers to them. Within a transaction it is ignored.
            if connection.dialect.name == "sqlite":
                connection.connection.cursor().execute("PRAGMA foreign_keys = OFF")
            context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
            with context.begin_transaction():
                context.run_migrations()
    finally:
        db.dispose()


if context.is_offline_mode():
    write()
else:
    run()
