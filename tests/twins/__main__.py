"""The thorough profile on every shape and database: `python -m tests.twins`, which `make twins` calls.

One line per database; the exit code is 1 where memory and a database part, or where fewer operations were run.
"""

import argparse
import sys

from sqlrepo.testing.twins.contract import Effort, Exploration
from sqlrepo.testing.twins.model import Subject
from sqlrepo.testing.twins.stores import Stores
from tests.databases import servers
from tests.twins.places import SYNCHRONOUS, made
from tests.twins.shapes import SHAPES


def main():
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("databases", nargs="*", default=SYNCHRONOUS, metavar="database", help=", ".join(SYNCHRONOUS))
    asked.add_argument("--operations", type=int, default=100_000, help="on each database, over all shapes")
    asked.add_argument("--seed", type=int, default=7)
    given = asked.parse_args()
    try:
        agreed = [agrees(name, given.operations, given.seed) for name in given.databases]
    finally:
        servers.ENDED.close()
    sys.exit(0 if all(agreed) else 1)


def agrees(name, operations, seed):
    """Run all shapes on one database, and say so in a line."""
    done, differences, driver = 0, [], name
    for unit, queries in SHAPES.items():
        subject = Subject(unit, queries)
        stores = Stores(subject, made(name, None))
        driver = stores.name
        try:
            stores.create()
            effort = Effort(programs=300, operations=-(-operations // len(SHAPES)), seed=seed)
            exploration = Exploration(subject, stores, effort)
            exploration.run()
        except AssertionError as difference:
            differences.append(str(difference))
        finally:
            stores.close()
        done += exploration.tally.operations
    sys.stdout.writelines(differences)
    sys.stdout.write(f"{driver}: {done} operations, {len(differences)} differences, seed {seed}\n")
    sys.stdout.flush()
    return not differences and done >= operations


if __name__ == "__main__":
    main()
