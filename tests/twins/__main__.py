"""The thorough profile on every shape and database: `python -m tests.twins`, which `make twins` calls.

Several databases have a process each. One line per database, and one for each history of concurrent units at each of
its isolation levels; the exit code is 1 if memory and a database differ, if a level allows what it does not declare, or
if fewer operations were run.
"""

import argparse
import subprocess
import sys

from sqlrepo.testing.twins.contract import Effort, Run
from sqlrepo.testing.twins.model import UnitUnderTest
from sqlrepo.testing.twins.stores import Stores
from tests.databases import servers
from tests.twins import history
from tests.twins.places import SYNCHRONOUS, connect
from tests.twins.shapes import SHAPES, shapes_on


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("databases", nargs="*", default=SYNCHRONOUS, metavar="database", help=", ".join(SYNCHRONOUS))
    parser.add_argument("--operations", type=int, default=100_000, help="on each database, over all shapes")
    parser.add_argument("--seed", type=int, default=7)
    names = [unit.__name__ for unit in SHAPES]
    parser.add_argument("--shapes", nargs="*", default=names, choices=names, metavar="shape", help="only some")
    given = parser.parse_args()
    if len(given.databases) > 1:
        same = [f"--operations={given.operations}", f"--seed={given.seed}", "--shapes", *given.shapes]
        runs = [subprocess.Popen([sys.executable, "-m", "tests.twins", name, *same]) for name in given.databases]
        codes = [run.wait() for run in runs]
        sys.exit(1 if any(codes) else 0)
    try:
        agreed = [agrees(name, given.shapes, given.operations, given.seed) for name in given.databases]
    finally:
        servers.ENDED.close()
    sys.exit(0 if all(agreed) else 1)


def agrees(name, shapes, operations, seed):
    """Run shapes on one database, and print a line."""
    done, differences, driver = 0, [], name
    chosen = {unit: queries for unit, queries in shapes_on(name).items() if unit.__name__ in shapes}
    for unit, queries in chosen.items():
        stores = Stores(UnitUnderTest(unit, queries), connect(name, unit))
        share = -(-operations // len(chosen))
        run = Run(stores, Effort(programs=min(300, share // 50 + 1), operations=share, seed=seed))
        try:
            driver = f"{stores.name} ({servers.product(stores.database.engine)})"
            stores.create_tables()
            run.execute()
        except AssertionError as difference:
            differences.append(str(difference))
        finally:
            stores.close()
        done += run.tally.operations
    lines, declared = history.check(name)
    line = f"{driver}: {done} operations, {len(differences)} differences, seed {seed}\n"
    sys.stdout.write("".join((*differences, line, *lines)))
    sys.stdout.flush()
    return declared and not differences and done >= operations


if __name__ == "__main__":
    main()
