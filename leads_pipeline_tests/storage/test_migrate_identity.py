"""The upgrade to identity that can be taken back: what becomes of the rows that are there."""

import json

import pytest
import sqlalchemy as sa
from alembic import command

from leads_pipeline.clock import FrozenClock
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.storage import migrate
from leads_pipeline.storage.database import engine_for
from leads_pipeline.storage.partitions import ensure_partitions
from leads_pipeline.storage.reindexing import StaleIndex, stale_indexes
from leads_pipeline.storage.schema import SCHEMA
from leads_pipeline_tests.conftest import NOW

LEAD, HOLDER, WITHOUT = uuid7(NOW), uuid7(NOW), uuid7(NOW)


@pytest.fixture
def before(empty_database_url: str) -> sa.Engine:
    """A database of the release before."""
    engine = engine_for(empty_database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"create schema if not exists {SCHEMA}")
        config = migrate._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        ensure_partitions(connection, now=NOW)
    return engine


def test_who_did_without_an_address_awaits_it_and_keys_go_on_posting(before: sa.Engine, clock: FrozenClock) -> None:
    golden = """
        insert into golden_contacts (contact_id, tenant, version, email, email_key, attribution, consent, provenance,
            lead_count, first_source, last_source, first_seen_at, last_seen_at, batch_id, runner_id, updated_at)
        values (:id, 'acme', 1, 'Info@firm.com', :key, '{}', '{}', cast(:provenance as jsonb), 1, 'website', 'website',
            now(), now(), gen_random_uuid(), 'test', now())
    """
    provenance = json.dumps({"email": {"lead_id": str(LEAD)}})
    with before.begin() as connection:
        connection.execute(
            sa.text(
                """
                insert into validated_leads (lead_id, revision, tenant, source, capture_lane, sync_lane, received_at,
                    email, email_key, attribution, flags, rule_version, batch_id, runner_id, validated_at)
                values (:id, 1, 'acme', 'website', 'batch', 'batch', now(), 'Info@firm.com', 'info@firm.com', '{}',
                    '[]', '1', gen_random_uuid(), 'test', now())
                """
            ),
            {"id": LEAD},
        )
        connection.execute(sa.text(golden), {"id": HOLDER, "key": "info@firm.com", "provenance": provenance})
        connection.execute(sa.text(golden), {"id": WITHOUT, "key": None, "provenance": provenance})
        connection.exec_driver_sql("insert into api_keys values ('k', 'acme', 'website', 'hash', now(), null)")
    migrate.upgrade(before, now=clock.now())
    with before.connect() as connection:
        held = connection.exec_driver_sql("select contact_id, email_key, awaited_email_key from golden_contacts")
        assert {tuple(row) for row in held} == {(HOLDER, "info@firm.com", None), (WITHOUT, None, "info@firm.com")}
        [key] = connection.exec_driver_sql("select scope, source from api_keys")
        assert tuple(key) == ("post", "website")


def test_records_of_the_release_before_are_to_be_made_anew(before: sa.Engine, clock: FrozenClock) -> None:
    with before.begin() as connection:
        connection.exec_driver_sql("insert into identity_sizes (tenant, records, contacts) values ('acme', 3, 2)")
    migrate.upgrade(before, now=clock.now())
    with before.connect() as connection:
        assert stale_indexes(connection) == [StaleIndex("acme", 0, 3)]
