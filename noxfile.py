"""The tests of `make test` on each supported Python and SQLAlchemy, the web tests on the oldest and newest FastAPI.

Run ``nox``, or one of the cells that ``nox -l`` lists. A cell takes about five minutes on two cores.
"""

import os
import shutil
import sys

import nox

FASTAPI = {"floor": "==0.121.0", "newest": ""}
PYTHONS = ["3.11", "3.12", "3.13"]
if shutil.which("python3.14"):
    PYTHONS.append("3.14")
else:
    sys.stderr.write("There is no python3.14 here, so its cells are left out; `make newest` brings one.\n")
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
    options = ("--numprocesses", "auto", "-m", "not repeats", *session.posargs)
    session.run("pytest", *options, env={"SQLREPO_TEST_LOCAL": local})


@nox.session(python=PYTHONS)
@nox.parametrize("fastapi", list(FASTAPI), ids=list(FASTAPI))
def web(session: nox.Session, fastapi: str) -> None:
    """Run the tests that use FastAPI."""
    session.install("--quiet", "--editable", ".[tests]", f"fastapi{FASTAPI[fastapi]}")
    session.run("python", "-c", "import fastapi; print('FastAPI', fastapi.__version__)")
    local = os.environ.get("SQLREPO_TEST_LOCAL", "1")
    paths = ("tests/web", "tests/beside", "tests/test_example.py")
    session.run("pytest", *paths, "-m", "not repeats", *session.posargs, env={"SQLREPO_TEST_LOCAL": local})
