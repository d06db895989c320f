"""The chain obeys what rules have ordered, and goes on when that has ended."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from leads_pipeline.buffer.port import NewLead
from leads_pipeline.buffer.postgresql import PostgresBuffer
from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import parse_settings
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.stage import ALL_LANES, Lane, Stage
from leads_pipeline.flows import FlowContext, drain
from leads_pipeline_tests.conftest import LEADS_YAML
from leads_pipeline_tests.ordering import end_orders, order


@pytest.fixture
def context(engine: sa.Engine, clock: FrozenClock) -> FlowContext:
    return FlowContext(engine, parse_settings(LEADS_YAML + "pipeline: {chunk_size: 2}\n", path=Path("l.yaml")), clock)


def capture(context: FlowContext, leads: int, *, tenant: str = "acme", lane: Lane = Lane.BATCH) -> None:
    now = context.clock.now()
    new = [
        NewLead(
            lead_id=uuid7(now),
            tenant=tenant,
            source="website",
            lane=lane,
            received_at=now,
            key_hex=uuid7(now).hex.rjust(64, "0"),
            body_hex="0" * 64,
            payload={"email": f"person{number}@example.com"},
            consent=[],
            context={},
        )
        for number in range(leads)
    ]
    PostgresBuffer(context.engine).append(new, now=now)


def test_chunks_are_as_large_as_a_rule_has_them(context: FlowContext):
    capture(context, 8)
    order(context.engine, "resize_chunks", now=context.clock.now(), tenant="acme", lane="batch", factor=4)

    wide = drain(context, Stage.RAW_LEADS, lanes=ALL_LANES, runner_id="test")
    end_orders(context.engine, now=context.clock.now())
    usual = drain(context, Stage.VALIDATED_LEADS, lanes=ALL_LANES, runner_id="test")

    assert (wide.taken, wide.chunks) == (8, 1)
    assert (usual.taken, usual.chunks) == (8, 4)


def test_leads_of_a_paused_lane_stay_where_they_are_until_it_is_resumed(context: FlowContext):
    capture(context, 3)
    capture(context, 1, lane=Lane.REAL_TIME)
    capture(context, 1, tenant="globex")
    order(context.engine, "pause_lane", now=context.clock.now(), tenant="acme", lane="batch")

    paused = drain(context, Stage.RAW_LEADS, lanes=ALL_LANES, runner_id="test")
    end_orders(context.engine, now=context.clock.now())
    resumed = drain(context, Stage.RAW_LEADS, lanes=ALL_LANES, runner_id="test")

    assert (paused.taken, paused.remaining) == (2, 3)
    assert (resumed.taken, resumed.remaining) == (3, 0)
