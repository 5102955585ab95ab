"""``python -m tests.databases.versions`` prints the servers that tests would use, as "MySQL 9.7.0, PostgreSQL 18.1"."""

import sqlalchemy as sa

from tests.databases import servers

if __name__ == "__main__":
    urls = [kind.url for kind in servers.KINDS.values() if kind.url]
    print(", ".join(servers.product(sa.create_engine(url)) for url in urls))  # noqa: T201
