"""What it reads to make a tenant's records anew, beside a tenant of many more leads."""

from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from leads_pipeline.domain.ids import uuid7
from leads_pipeline.storage import reindexing
from leads_pipeline.storage.identity import lock_identity, walk_by_index
from leads_pipeline_tests.conftest import NOW

OTHERS = 20_000
OWN = 50
# The other tenant's leads lie between the own ones, and half of them after the last.
CROWD = """
    insert into deduped_leads (
        lead_id, revision, tenant, sync_lane, contact_id, decision, batch_id, runner_id, deduped_at
    )
    select cast(lpad(to_hex(number), 32, '0') as uuid), 1,
        case when number % :apart = 0 and number <= :count / 2 then 'small' else 'big' end, 'batch',
        cast(lpad(to_hex(number), 32, 'c') as uuid), 'new', :batch, 'test', :now
    from generate_series(1, :count) as number
"""


@pytest.fixture
def crowded(engine: sa.Engine) -> sa.Engine:
    with engine.begin() as connection:
        values = {"apart": OTHERS // OWN // 2, "batch": uuid7(NOW), "now": NOW, "count": OTHERS}
        connection.execute(sa.text(CROWD), values)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("vacuum (analyze) deduped_leads")
    return engine


def pages_read(connection: sa.Connection, statement: sa.TextClause, values: dict[str, Any]) -> int:
    explain = sa.text(f"explain (analyze, buffers, format json) {statement.text}")
    answer: Any = connection.execute(explain, values).scalar_one()
    plan = answer[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def test_a_small_tenants_leads_are_found_without_reading_the_others(crowded: sa.Engine) -> None:
    with crowded.begin() as connection:
        lock_identity(connection, "small")
        walk_by_index(connection)
        values = {"tenant": "small", "after": UUID(int=0), "limit": 2_000}
        assert len(connection.execute(reindexing._NEXT, values).all()) == OWN
        assert pages_read(connection, reindexing._NEXT, values) <= 2 * OWN
        nothing_left = {**values, "after": UUID(int=OTHERS // 2)}
        assert connection.execute(reindexing._NEXT, nothing_left).all() == []
        assert pages_read(connection, reindexing._NEXT, nothing_left) <= 5


def test_a_part_of_a_large_tenants_leads_costs_what_the_part_has(crowded: sa.Engine) -> None:
    with crowded.begin() as connection:
        walk_by_index(connection)
        values = {"tenant": "big", "after": UUID(int=OTHERS // 2), "limit": 100}
        assert pages_read(connection, reindexing._NEXT, values) <= 2 * 100
