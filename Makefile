# Works from a bare checkout with python3 and make: whichever target comes first makes .venv.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Passed on to pytest: make test ARGS="-k savepoint -x"
ARGS ?=

# Databases that listen on this machine take part in the tests.
export SQLREPO_TEST_LOCAL ?= 1

.DEFAULT_GOAL := help
.SILENT:
.PHONY: help venv quick test repeats cover lint types docs demo run twins newest wheel check clean

help: ## list the targets, and how long each takes on two cores
	awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' Makefile

venv: $(READY) ## make .venv and install the library with its tools (a minute)

$(READY): pyproject.toml
	echo "Making .venv and installing into it; this takes a minute."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[dev]'
	touch $@

quick: export SQLREPO_TEST_REQUIRE :=
quick: export SQLREPO_TEST_LOCAL := 0
quick: export SQLREPO_TEST_CONTAINERS := 0
quick: export SQLREPO_TEST_POSTGRESQL_URL :=
quick: export SQLREPO_TEST_MARIADB_URL :=
quick: export SQLREPO_TEST_MYSQL_URL :=
quick: $(READY) ## run the tests that need no server and start no process (under a minute)
	$(BIN)/pytest --quiet --numprocesses auto -m "not repeats" tests/units tests/asynchronous tests/contract tests/schemas $(ARGS)

test: $(READY) ## run the suite, except tests that only repeat others (5 minutes)
	$(BIN)/pytest --numprocesses auto -m "not repeats" $(ARGS)

repeats: $(READY) ## run what `make test` leaves out: further drivers, entities and servers (5 minutes)
	$(BIN)/pytest --numprocesses auto -m repeats $(ARGS)

cover: $(READY) ## run the whole suite, and report the lines and branches that did not run (15 minutes)
	$(BIN)/pytest --cov --numprocesses auto $(ARGS)

lint: $(READY) ## check style, formatting and who imports whom (5 seconds)
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --check --quiet --diff
	$(BIN)/lint-imports --no-logo

types: $(READY) ## check types with mypy and pyright (a minute)
	$(BIN)/mypy
	$(BIN)/pyright

docs: $(READY) ## build the site into site/ (20 seconds)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	echo "The site is in site/index.html"

demo: $(READY) ## send requests to the examples, in memory and on SQLite (10 seconds)
	$(BIN)/python -m examples.todo.demo
	$(BIN)/python -m examples.helpdesk.demo

run: $(READY) ## serve the example and print where its /docs are
	$(BIN)/python -m examples.todo

twins: $(READY) ## run random programs, 100,000 operations on each database, and histories (20 minutes)
	$(BIN)/python -m tests.twins $(ARGS)

newest: $(READY) ## run the suite on Python 3.14, beside MySQL 9 and PostgreSQL 18, and the twins on both (40 minutes)
	"$${SQLREPO_NEWEST:-../shared/tools/with-newest}" .ci/newest

wheel: $(READY) ## build the wheel into dist/ (5 seconds)
	$(BIN)/python -m pip wheel -qq --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .

check: lint types test repeats docs demo ## run lint, types, test, repeats, docs and demo (12 minutes)

clean: ## back to a bare checkout
	rm -rf .venv .venv314 build dist site htmlcov .coverage .coverage.* .hypothesis .*_cache
	find src tests examples docs -type d -name __pycache__ -prune -exec rm -rf {} +
