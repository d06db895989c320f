from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from leads_pipeline.clock import FrozenClock
from leads_pipeline.errors import SchemaOutdated
from leads_pipeline.storage.database import engine_for, sqlalchemy_url
from leads_pipeline.storage.migrate import current_version, expected_version, is_ready, require_current, upgrade
from leads_pipeline.storage.partitions import ensure_partitions
from leads_pipeline.storage.schema import PARTITIONED, metadata

# Everything that PostgreSQL knows about the tables of a schema, without the order of columns.
CATALOG = {
    "columns": """
        select c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity::text,
               pg_get_expr(d.adbin, d.adrelid)
        from pg_attribute a
        join pg_class c on c.oid = a.attrelid
        left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where c.relnamespace = 'leads'::regnamespace and c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped
    """,
    "constraints": """
        select conrelid::regclass::text, conname, pg_get_constraintdef(oid)
        from pg_constraint where connamespace = 'leads'::regnamespace and contype <> 'n'
    """,
    "indexes": "select tablename, indexname, indexdef from pg_indexes where schemaname = 'leads'",
    "partitioning": """
        select c.relname, pg_get_partkeydef(c.oid), pg_get_expr(c.relpartbound, c.oid)
        from pg_class c where c.relnamespace = 'leads'::regnamespace and c.relkind in ('r', 'p')
    """,
}


@pytest.fixture
def empty(empty_database_url: str) -> Iterator[sa.Engine]:
    engine = engine_for(empty_database_url)
    yield engine
    engine.dispose()


def _catalog(engine: sa.Engine) -> dict[str, set[tuple[object, ...]]]:
    with engine.connect() as connection:
        return {
            what: {
                tuple(row) for row in connection.exec_driver_sql(query) if not str(row[0]).endswith("alembic_version")
            }
            for what, query in CATALOG.items()
        }


def test_alembic_finds_no_difference_between_the_migrations_and_the_metadata(database_url: str) -> None:
    # Alembic compares with what it takes for the default schema, which it asks for before `engine_for` sets the path.
    engine = sa.create_engine(sqlalchemy_url(database_url), connect_args={"options": "-csearch_path=leads"})
    try:
        with engine.connect() as connection:
            partitions = set(connection.exec_driver_sql("select inhrelid::regclass::text from pg_inherits").scalars())
            context = MigrationContext.configure(
                connection,
                opts={
                    "compare_type": True,
                    "compare_server_default": True,
                    "include_name": lambda name, kind, _parents: (
                        kind != "table" or (name not in partitions and name != "alembic_version")
                    ),
                },
            )
            assert compare_metadata(context, metadata) == []
    finally:
        engine.dispose()


def test_postgresql_sees_the_same_tables_from_the_migrations_as_from_the_metadata(
    engine: sa.Engine, empty: sa.Engine, clock: FrozenClock
) -> None:
    """Alembic's comparison overlooks primary keys, partition keys and conditions of indexes; the catalog does not."""
    with empty.begin() as connection:
        connection.exec_driver_sql("create schema leads")
        metadata.create_all(connection)
        ensure_partitions(connection, now=clock.now())
    migrated, created = _catalog(engine), _catalog(empty)
    assert len(created["columns"]) > 250
    for what in CATALOG:
        assert migrated[what] - created[what] == set(), f"{what}: only in the migrations"
        assert created[what] - migrated[what] == set(), f"{what}: only in the metadata"


def test_the_growing_tables_are_partitioned(engine: sa.Engine) -> None:
    keys = {name: key for name, key, _bound in _catalog(engine)["partitioning"] if key is not None}
    assert keys == dict.fromkeys(PARTITIONED, "RANGE (lead_id)")


def test_a_second_upgrade_changes_nothing(engine: sa.Engine, clock: FrozenClock) -> None:
    before = _catalog(engine)
    report = upgrade(engine, now=clock.now())
    assert (report.version_before, report.partitions_created, report.notices) == (expected_version(), (), ())
    assert _catalog(engine) == before


def test_racing_upgrades_of_an_empty_database_make_one_schema(
    empty_database_url: str, engine: sa.Engine, clock: FrozenClock
) -> None:
    engines = [engine_for(empty_database_url) for _ in range(6)]
    try:
        with ThreadPoolExecutor(len(engines)) as pool:
            reports = list(pool.map(lambda racer: upgrade(racer, now=clock.now()), engines))
        assert sorted(str(report.version_before) for report in reports) == [expected_version()] * 5 + ["None"]
        assert _catalog(engines[0]) == _catalog(engine)
    finally:
        for racer in engines:
            racer.dispose()


def test_a_failed_upgrade_leaves_nothing_behind(empty: sa.Engine, clock: FrozenClock) -> None:
    with empty.begin() as connection:
        connection.exec_driver_sql("create schema leads")
        connection.exec_driver_sql("create table leads.outbox (stranger integer)")
    with pytest.raises(sa.exc.ProgrammingError, match="outbox"):
        upgrade(empty, now=clock.now())
    assert {row[0] for row in _catalog(empty)["partitioning"]} == {"outbox"}
    with empty.connect() as connection:
        assert current_version(connection) is None


def test_an_empty_database_is_refused_with_the_command_that_mends_it(empty: sa.Engine) -> None:
    with pytest.raises(SchemaOutdated, match=r"has no schema yet.*run `leads db upgrade`"):
        require_current(empty)


def test_a_newer_schema_is_refused_and_not_touched(engine: sa.Engine, clock: FrozenClock) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("update leads.alembic_version set version_num = '9999'")
    for refused in (lambda: require_current(engine), lambda: upgrade(engine, now=clock.now())):
        with pytest.raises(SchemaOutdated, match=r"9999.*a newer one upgraded it"):
            refused()
    with engine.connect() as connection:
        assert current_version(connection) == "9999"


def test_a_schema_is_ready_until_the_month_after_next_has_no_partition(engine: sa.Engine, clock: FrozenClock) -> None:
    assert is_ready(engine, now=clock.now())
    later = clock.now() + timedelta(days=62)  # partitions reach three months ahead, one is asked for
    assert is_ready(engine, now=later)
    assert not is_ready(engine, now=later + timedelta(days=31))
