"""The upgrade to delivery of differences: what becomes of the rows that are there."""

import json

import pytest
import sqlalchemy as sa
from alembic import command

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import DailyLimit, RequestLimits, WindowLimit
from leads_pipeline.outbound.limiter import Grant, Limiter, Wait, WaitReason
from leads_pipeline.storage import migrate
from leads_pipeline.storage.database import engine_for
from leads_pipeline.storage.partitions import ensure_partitions
from leads_pipeline.storage.schema import SCHEMA
from leads_pipeline_tests.conftest import NOW


@pytest.fixture
def before(empty_database_url: str) -> sa.Engine:
    """A database of the release before."""
    engine = engine_for(empty_database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"create schema if not exists {SCHEMA}")
        config = migrate._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0004")
        ensure_partitions(connection, now=NOW)
    return engine


def test_what_was_delivered_is_known_by_its_names_and_by_whom_it_was_made_is_not(
    before: sa.Engine, clock: FrozenClock
) -> None:
    row = """
        insert into outbox (tenant, contact_id, destination, operation, state, lane, wanted_version, waiting_since,
            due_at, crm_record_id, delivered_fields, updated_at)
        values ('acme', gen_random_uuid(), 'hubspot', 'upsert', 'delivered', 'batch', 1, now(), now(), :record,
            cast(:fields as jsonb), now())
    """
    with before.begin() as connection:
        connection.execute(sa.text(row), {"record": "1", "fields": '["email", "firstname"]'})
        connection.execute(sa.text(row), {"record": "2", "fields": "[]"})
        connection.execute(sa.text(row), {"record": None, "fields": None})
    migrate.upgrade(before, now=clock.now())
    with before.connect() as connection:
        rows = connection.exec_driver_sql("select snapshot, taken_over, failures from outbox order by outbox_id").all()
    assert [tuple(found) for found in rows] == [
        ({"email": None, "firstname": None}, None, {}),
        ({}, None, {}),
        (None, None, {}),
    ]


def test_requests_that_were_refused_for_the_limit_are_known_as_such(before: sa.Engine, clock: FrozenClock) -> None:
    request = """
        insert into crm_sync_batches (batch_id, tenant, destination, account, endpoint, operation, records, http_status,
            runner_id, sent_at)
        values (gen_random_uuid(), 'acme', 'hubspot', 'main', '/', 'upsert', 1, :status, 'test', now())
    """
    with before.begin() as connection:
        for status in (200, 429, None):
            connection.execute(sa.text(request), {"status": status})
    migrate.upgrade(before, now=clock.now())
    with before.connect() as connection:
        found = connection.exec_driver_sql("select http_status from crm_sync_batches where throttled").scalars().all()
    assert found == [429]


def test_what_a_limiter_remembered_is_kept(before: sa.Engine, clock: FrozenClock) -> None:
    second_ago = round(NOW.timestamp() * 1000) - 1_000
    with before.begin() as connection:
        connection.execute(
            sa.text(
                "insert into rate_limits (account, endpoint_class, grants, daily, updated_at) "
                "values ('main', 'api', cast(:grants as jsonb), cast(:daily as jsonb), now())"
            ),
            {
                "grants": json.dumps({"10": [[second_ago, 2]]}),
                "daily": json.dumps({"day": f"{NOW.date().isoformat()} UTC", "used": 7}),
            },
        )
    migrate.upgrade(before, now=clock.now())
    limits = RequestLimits(windows=(WindowLimit(requests=3, seconds=10),), daily=DailyLimit(requests=9))
    limiter = Limiter(before, account="main", limits=limits, clock=clock)
    grant = limiter.acquire()
    assert isinstance(grant, Grant)
    assert grant.counted_today == 8
    wait = limiter.acquire()
    assert isinstance(wait, Wait)
    assert wait.seconds == pytest.approx(9.051), "the two of the second before are remembered"
    clock.advance(wait.seconds)
    assert isinstance(limiter.acquire(), Grant)
    spent = limiter.acquire()
    assert isinstance(spent, Wait)
    assert spent.reason is WaitReason.DAILY
