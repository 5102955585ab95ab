"""The test suite on every supported pair of Python and SQLAlchemy: ``nox``, or one cell, which ``nox -l`` names."""

import os

import nox

PYTHONS = ["3.11", "3.12", "3.13"]
SQLALCHEMY = {"floor": "==2.0.41", "2.0": ">=2.0.41,<2.1", "2.1": ">=2.1,<2.2"}

nox.options.error_on_missing_interpreters = True
nox.options.reuse_existing_virtualenvs = True


@nox.session(python=PYTHONS)
@nox.parametrize("sqlalchemy", list(SQLALCHEMY), ids=list(SQLALCHEMY))
def tests(session: nox.Session, sqlalchemy: str) -> None:
    """Run the suite; arguments behind ``--`` go to pytest."""
    session.install("--quiet", "--editable", ".[tests]", f"sqlalchemy{SQLALCHEMY[sqlalchemy]}")
    session.run("python", "-c", "import sqlalchemy; print('SQLAlchemy', sqlalchemy.__version__)")
    local = os.environ.get("SQLREPO_TEST_LOCAL", "1")  # as the Makefile has it
    session.run("pytest", "--numprocesses", "auto", *session.posargs, env={"SQLREPO_TEST_LOCAL": local})
