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
.PHONY: help venv test repeats cover lint types docs demo run twins wheel check clean

help: ## list the targets
	awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' Makefile

venv: $(READY) ## make .venv and install the library with its tools

$(READY): pyproject.toml
	echo "Making .venv and installing into it; this takes a minute."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[dev]'
	touch $@

test: $(READY) ## run the suite, without what only repeats a test on a further driver, shape or server
	$(BIN)/pytest --numprocesses auto -m "not repeats" $(ARGS)

repeats: $(READY) ## run the repeats that `make test` leaves out
	$(BIN)/pytest --numprocesses auto -m repeats $(ARGS)

cover: $(READY) ## the same, and tell which lines and branches were not run
	$(BIN)/pytest --cov --numprocesses auto $(ARGS)

lint: $(READY) ## check style, formatting and who imports whom
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --check --quiet --diff
	$(BIN)/lint-imports --no-logo

types: $(READY) ## check types with mypy and pyright
	$(BIN)/mypy
	$(BIN)/pyright

docs: $(READY) ## build the site into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	echo "The site is in site/index.html"

demo: $(READY) ## send real requests to the example, on memory and on SQLite
	$(BIN)/python -m examples.todo.demo

run: $(READY) ## serve the example and print where its /docs are
	$(BIN)/python -m examples.todo

twins: $(READY) ## run random programs, 100,000 operations on each database
	$(BIN)/python -m tests.twins $(ARGS)

wheel: $(READY) ## build the wheel into dist/
	$(BIN)/python -m pip wheel -qq --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .

check: lint types test repeats docs demo ## everything above that can fail

clean: ## back to a bare checkout
	rm -rf .venv build dist site htmlcov .coverage .coverage.* .hypothesis .*_cache
	find src tests examples docs -type d -name __pycache__ -prune -exec rm -rf {} +
