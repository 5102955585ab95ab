"""Tables as known sample databases and applications have them: memory keeps at least nine of ten without any help."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

import pytest
import sqlalchemy as sa

from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from sqlrepo.sqlalchemy.audit import audit
from tests.databases import servers
from tests.schemas import incidents, recipes
from tests.schemas.shapes import Shape, outcomes, reflected

# SQLAlchemy warns of its own type, wherever a column of a domain is compared.
pytestmark = pytest.mark.filterwarnings("ignore:Type object .*DOMAIN:sqlalchemy.exc.SADeprecationWarning")

# SQLAlchemy 2.0 does not reflect that a table is a partition of another, so memory would keep it as one of its own.
UNSEEN = ("charge_2025",) if sa.__version__.startswith("2.0.") else ()

LATER = datetime.fromisoformat("2999-01-01T00:00")  # without a zone


@dataclass(frozen=True)
class Case:
    """One schema: the database, a script or a module of mapped classes, and what memory refuses, with the reason."""

    name: str
    database: str
    source: object
    tables: int
    refused: dict = field(default_factory=dict)
    schemas: tuple = (None,)
    values: dict = field(default_factory=dict)  # of columns that a check, or a trigger, concerns


CASES = [
    Case(
        "rental",
        "postgresql",
        "rental.sql",
        17 - len(UNSEEN),
        {} if UNSEEN else {"charge_2025": "postgresql_inherits of the table"},
        values={"movie.released": 2006},
    ),
    Case(
        "bicycles",
        "postgresql",
        "bicycles.sql",
        22,
        {
            "people.mail": "check mail_sign: REGEXP_LIKE",
            "people.worker": "check CK_worker_born: CURRENT_TIMESTAMP() - CAST('18 years' AS INTERVAL) is a condition",
        },
        ("people", "making", "buying", "selling"),
        {
            "person.kind": "SC",
            "pay.rate": Decimal("7.5"),
            "product.line": "S",
            "product.grade": "L",
            "product.sold_to": LATER,
            "movement.kind": "W",
            "part.assembly_id": None,
            "part.level": 0,
            "part.until": LATER,
            "purchase.shipped": LATER,
            "offer.ends": LATER,
        },
    ),
    Case(
        "cinema",
        "mariadb",
        "cinema.sql",
        16,
        {"address": "column location: its type NullType() has no portable meaning"},
        values={"film.released": 2006, "film_words.film_id": 9},
    ),
    Case("traders", "sqlite", "traders.sql", 14, {"Order Details": "column Discount: it has 32 bits"}),
    Case("recipes", "sqlite", recipes, 14, values=recipes.VALUES),
    Case("recipes", "postgresql", recipes, 14, values=recipes.VALUES),
    Case(
        "incidents",
        "postgresql",
        incidents,
        13,
        {"pause": "column period: its type TSTZRANGE() has no portable meaning"},
        values=incidents.VALUES,
    ),
]


def declared(url, module):
    """The mapped classes and tables of a module, made in a database."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    if engine.dialect.name == "postgresql":
        servers.execute(engine, "CREATE EXTENSION IF NOT EXISTS pg_trgm", "CREATE SCHEMA IF NOT EXISTS core", "COMMIT")
    module.Base.metadata.create_all(engine)
    by_table = {getattr(model, "__table__", model): model for model in module.MODELS}
    return module.Base.metadata, [by_table[table] for table in module.Base.metadata.sorted_tables]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case.name}-{case.database}")
def case(request):
    return request.param


@pytest.fixture(scope="module")
def url(case, tmp_path_factory):
    if case.database == "sqlite":
        return sa.make_url(f"sqlite:///{tmp_path_factory.mktemp('schemas') / case.name}.db")
    return servers.made_for_tests(case.database, f"{case.name}_usual")


@pytest.fixture(scope="module")
def read(case, url):
    """The metadata and the shapes of all tables."""
    script = isinstance(case.source, str)
    metadata, models = reflected(url, case.source, case.schemas) if script else declared(url, case.source)
    return metadata, [Shape(model, case.values) for model in models if getattr(model, "name", "") not in UNSEEN]


@pytest.fixture(scope="module")
def refused(read):
    """What memory says of the tables that it does not keep."""
    return {shape.table.fullname: text for shape in read[1] if (text := shape.refusal()) is not None}


def test_nine_of_ten_tables_are_kept_and_the_others_refused_by_name(case, read, refused):
    assert len(read[1]) == case.tables
    assert len(refused) <= case.tables / 10
    assert refused.keys() == case.refused.keys()
    for table, text in refused.items():
        assert text.startswith(f"table {table.rpartition('.')[2]} cannot be kept in memory: {case.refused[table]}")


def test_a_row_of_each_table_is_stored_and_found_as_on_the_database(read, refused, url):
    kept = [shape for shape in read[1] if shape.table.fullname not in refused]
    database = Database(url.render_as_string(hide_password=False))
    found = outcomes(kept, database)
    database.dispose()

    in_memory = outcomes(kept, InMemoryDatabase())
    assert {name: in_memory[name] for name in found if in_memory[name] != found[name]} == {}


def test_the_audit_says_the_same_as_memory(read, refused, url):
    metadata, shapes = read
    fields = {(shape.table.fullname, column.name) for shape in shapes for column in shape.columns}
    said = {}
    for found in audit(metadata, url.render_as_string(hide_password=False)):
        asked = not found.column or (found.table, found.place) in fields  # others may be left out
        if asked and "cannot be kept in memory" in found.effect:
            said.setdefault(found.table, []).append(f"{found.what} {found.effect}")

    assert said.keys() == refused.keys()
    for table, text in refused.items():
        reasons = text.partition("cannot be kept in memory: ")[2].split("; column ")
        for reason in reasons:
            assert any(reason.removeprefix("column ").partition(": ")[2] in one for one in said[table]), reason
