import secrets
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from leads_pipeline.buffer.port import NewLead, PostResult
from leads_pipeline.buffer.postgresql import PostgresBuffer
from leads_pipeline.clock import FrozenClock
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.stage import Lane
from leads_pipeline.storage.api_keys import KEYS_IN_FORCE
from leads_pipeline.storage.database import engine_for
from leads_pipeline.storage.embedded import EmbeddedServer
from leads_pipeline.storage.migrate import require_current, upgrade
from leads_pipeline.storage.orders import REFUSALS_IN_FORCE
from leads_pipeline.storage.roles import ANALYST_ROLE, CAPTURE_ROLE, LOOKUP_ROLE, MARTS_SCHEMA, PIPELINE_ROLE, ROLES
from leads_pipeline.storage.schema import metadata

READ, WRITE = {"select"}, {"select", "insert", "update", "delete"}
PRIVILEGES = ("select", "insert", "update", "delete", "truncate", "references", "trigger")

CAPTURE_MAY = {
    "buffer": {"insert"},
    "ingest_keys": {"select", "insert"},
    "capture_batches": {"insert"},
    "redis_incarnations": {"insert"},
    "outcomes": {"insert"},
    "api_keys": READ,
    "alembic_version": READ,
}
PIPELINE_MAY = {**dict.fromkeys(metadata.tables, WRITE), "alembic_version": READ}
# Of tables with personal data some columns: not the table's privilege.
LOOKUP_MAY = {"alembic_version": READ}
LOOKUP_MAY_READ = {
    "golden_contacts": (
        "contact_id tenant email_key awaited_email_key phone first_name last_name company job_title email_verdict "
        "phone_verdict phone_line_type consent last_seen_at"
    ),
    "contacts": "contact_id tenant merged_into",
    "deduped_leads": "lead_id tenant contact_id",
    "match_records": "contact_id tenant email_key phone_key",
}
MAY = {CAPTURE_ROLE: CAPTURE_MAY, LOOKUP_ROLE: LOOKUP_MAY, PIPELINE_ROLE: PIPELINE_MAY, ANALYST_ROLE: {}}

STORE_A_LEAD = """
    insert into buffer (lead_id, tenant, source, lane, received_at, payload, consent, context)
    values (gen_random_uuid(), 'acme', 'website', 'real_time', now(), '{}', '[]', '{}')
"""
COUNT_A_BATCH = """
    insert into capture_batches (batch_id, tenant, source, lane, captured, duplicates, committed_at)
    values (gen_random_uuid(), 'acme', 'website', 'batch', 1, 0, now())
"""
CLAIM_A_KEY = """
    insert into ingest_keys values ('acme', 'website', '\\x01', gen_random_uuid(), '\\x02', now())
    on conflict (tenant, source, key_sha256) do nothing returning lead_id
"""


def _run(engine: sa.Engine, role: str, statement: str) -> None:
    """Run a statement with the privileges of ``role`` and nothing else."""
    with engine.begin() as connection:
        connection.exec_driver_sql(f"set local role {role}")
        connection.exec_driver_sql(statement)


def _tables(engine: sa.Engine) -> list[str]:
    with engine.connect() as connection:
        return list(
            connection.exec_driver_sql(
                "select relname from pg_class where relnamespace = 'leads'::regnamespace and relkind in ('r', 'p')"
            ).scalars()
        )


@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_exactly_its_privileges(engine: sa.Engine, role: str) -> None:
    with engine.connect() as connection:
        found = {
            (table, privilege)
            for table in _tables(engine)
            for privilege in PRIVILEGES
            if connection.execute(
                sa.text("select has_table_privilege(:role, :table, :privilege)"),
                {"role": role, "table": f"leads.{table}", "privilege": privilege},
            ).scalar_one()
        }
    partitions = set(_tables(engine)) - metadata.tables.keys() - {"alembic_version"}
    assert len(partitions) == 24
    expected = {(table, privilege) for table, privileges in MAY[role].items() for privilege in privileges}
    if role == PIPELINE_ROLE:
        expected |= {(table, privilege) for table in partitions for privilege in WRITE}
    assert found == expected


def test_look_ups_read_the_columns_that_they_answer_with_and_no_other(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        found = {
            (table.name, column.name)
            for table in metadata.tables.values()
            for column in table.columns
            if connection.execute(
                sa.text("select has_column_privilege(:role, :table, :column, 'select')"),
                {"role": LOOKUP_ROLE, "table": f"leads.{table.name}", "column": column.name},
            ).scalar_one()
        }
    assert found == {(table, column) for table, columns in LOOKUP_MAY_READ.items() for column in columns.split()}


@pytest.mark.parametrize("role", ROLES)
def test_a_role_cannot_log_in_or_rule(engine: sa.Engine, role: str) -> None:
    with engine.connect() as connection:
        row = connection.execute(
            sa.text("select rolcanlogin, rolsuper, rolcreaterole, rolcreatedb from pg_roles where rolname = :role"),
            {"role": role},
        ).one()
    assert tuple(row) == (False, False, False, False)


NAME_A_REDIS = "insert into redis_incarnations values ('name', now()) on conflict do nothing"


@pytest.mark.parametrize(
    "statement", [STORE_A_LEAD, COUNT_A_BATCH, CLAIM_A_KEY, NAME_A_REDIS, "select * from api_keys"]
)
def test_the_door_can_do_its_work(engine: sa.Engine, statement: str) -> None:
    _run(engine, CAPTURE_ROLE, statement)


@pytest.fixture
def door_url(server: EmbeddedServer, database_url: str) -> Iterator[str]:
    """The database's URL for a login of the capture service, which a DBA has granted nothing but its role."""
    login, password = f"door_{secrets.token_hex(4)}", secrets.token_hex(8)
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"create role {login} login password '{password}' in role {CAPTURE_ROLE}")  # type: ignore[arg-type]
        yield sa.make_url(database_url).set(username=login, password=password).render_as_string(hide_password=False)
        connection.execute(f"drop role {login}")  # type: ignore[arg-type]


def test_the_doors_own_statements_run_with_nothing_but_its_role(door_url: str, clock: FrozenClock) -> None:
    lead = NewLead(
        lead_id=uuid7(clock.now()), tenant="acme", source="website", lane=Lane.REAL_TIME, received_at=clock.now(),
        key_hex="01", body_hex="02", payload={"email": "ada@example.org"}, consent=[], context={},
    )  # fmt: skip
    engine = engine_for(door_url)
    try:
        require_current(engine)
        posted = [PostgresBuffer(engine).append([lead], now=clock.now())[0].result for _ in range(2)]
        with engine.connect() as connection:
            assert connection.exec_driver_sql(KEYS_IN_FORCE).all() == []
            assert connection.exec_driver_sql(REFUSALS_IN_FORCE, {"now": clock.now()}).all() == []
    finally:
        engine.dispose()
    assert posted == [PostResult.ACCEPTED, PostResult.ACCEPTED], "the second is the same post, tried again"


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        (CAPTURE_ROLE, "select payload from buffer"),
        (CAPTURE_ROLE, "select * from capture_batches"),
        (CAPTURE_ROLE, "delete from buffer"),
        (CAPTURE_ROLE, "update ingest_keys set received_at = now()"),
        (CAPTURE_ROLE, "insert into api_keys values ('k', 'acme', 'website', 'x', now(), null)"),
        (CAPTURE_ROLE, "select * from golden_contacts"),
        (CAPTURE_ROLE, "select cause from policy_actions"),
        (CAPTURE_ROLE, "create table leads.mine (x integer)"),
        (LOOKUP_ROLE, "select email from golden_contacts"),
        (LOOKUP_ROLE, "select * from api_keys"),
        (LOOKUP_ROLE, "select payload from buffer"),
        (LOOKUP_ROLE, "select lead_id from validated_leads"),
        (LOOKUP_ROLE, "update golden_contacts set company = 'x'"),
        (PIPELINE_ROLE, "create table leads.mine (x integer)"),
        (PIPELINE_ROLE, "drop table leads.outbox"),
        (PIPELINE_ROLE, "update leads.alembic_version set version_num = 'x'"),
        (ANALYST_ROLE, "select * from leads.golden_contacts"),
        (ANALYST_ROLE, "select * from leads.raw_leads_default"),
        (ANALYST_ROLE, "select count(*) from leads.validated_leads"),
        (ANALYST_ROLE, "create table marts.mine (x integer)"),
    ],
)
def test_a_role_is_refused_what_it_does_not_need(engine: sa.Engine, role: str, statement: str) -> None:
    with pytest.raises(sa.exc.ProgrammingError, match=r"permission denied|must be owner"):
        _run(engine, role, statement)


def test_the_pipeline_numbers_its_outbox(engine: sa.Engine) -> None:
    _run(
        engine,
        PIPELINE_ROLE,
        "insert into outbox (tenant, contact_id, destination, operation, state, lane, wanted_version, waiting_since, "
        "due_at, updated_at) values ('acme', gen_random_uuid(), 'hubspot', 'upsert', 'waiting', 'batch', 1, now(), "
        "now(), now())",
    )


def test_the_analyst_reads_marts_that_are_built_later_and_not_other_new_tables(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(f"create table {MARTS_SCHEMA}.contacts as select 'masked' as email")
        connection.exec_driver_sql("create table public.runs (body text)")
        connection.exec_driver_sql("create table leads.later (email text)")
    _run(engine, ANALYST_ROLE, f"select email from {MARTS_SCHEMA}.contacts")
    for raw in ("public.runs", "leads.later"):
        with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
            _run(engine, ANALYST_ROLE, f"select * from {raw}")
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
        _run(engine, ANALYST_ROLE, f"insert into {MARTS_SCHEMA}.contacts values ('x')")


@pytest.fixture
def bare_server(own_state: Path) -> EmbeddedServer:
    """A server of this test's own, on which nobody has made our roles yet."""
    server = EmbeddedServer(own_state, durable=False)
    server.start()
    return server


@pytest.fixture
def powerless(bare_server: EmbeddedServer) -> Iterator[sa.Engine]:
    """The owner of a database who may not create roles, as at most hosting providers."""
    password = secrets.token_hex(8)
    with psycopg.connect(bare_server.url(), autocommit=True) as connection:
        connection.execute(f"create role customer login password '{password}'")  # type: ignore[arg-type]
        connection.execute("create database hosted owner customer")
    url = sa.make_url(bare_server.url()).set(username="customer", password=password, database="hosted")
    engine = engine_for(url.render_as_string(hide_password=False))
    yield engine
    engine.dispose()


@pytest.mark.slow
def test_a_user_who_may_not_create_roles_gets_a_schema_and_a_notice(
    bare_server: EmbeddedServer, powerless: sa.Engine, clock: FrozenClock
) -> None:
    report = upgrade(powerless, now=clock.now())
    assert len(report.notices) == 1
    assert f"create role {CAPTURE_ROLE} nologin;" in report.notices[0]
    with powerless.begin() as connection:
        connection.exec_driver_sql(STORE_A_LEAD)

    with psycopg.connect(bare_server.url(), autocommit=True) as connection:  # what the notice asks of the DBA
        for role in ROLES:
            connection.execute(f"create role {role} nologin")  # type: ignore[arg-type]
            connection.execute(f"grant {role} to customer")  # type: ignore[arg-type]
    assert upgrade(powerless, now=clock.now()).notices == ()
    _run(powerless, CAPTURE_ROLE, STORE_A_LEAD)


@pytest.mark.slow
def test_marts_of_another_owner_give_a_notice_and_do_not_stop_the_upgrade(
    bare_server: EmbeddedServer, powerless: sa.Engine, clock: FrozenClock
) -> None:
    with psycopg.connect(bare_server.url().rpartition("/")[0] + "/hosted", autocommit=True) as connection:
        for role in ROLES:
            connection.execute(f"create role {role} nologin")  # type: ignore[arg-type]
        connection.execute("create schema marts")
    notices = upgrade(powerless, now=clock.now()).notices
    assert [notice.split(" did not")[0] for notice in notices] == [
        f"the role {PIPELINE_ROLE}",
        f"the role {ANALYST_ROLE}",
    ]
    assert all("permission denied for schema marts" in notice for notice in notices)
