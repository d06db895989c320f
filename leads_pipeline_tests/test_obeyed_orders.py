"""The chain obeys what rules have ordered, and goes on when that has ended."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from leads_pipeline.buffer.bounds import pace_for
from leads_pipeline.buffer.port import NewLead
from leads_pipeline.buffer.postgresql import PostgresBuffer
from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import parse_settings
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.stage import ALL_LANES, Lane, Stage
from leads_pipeline.flows import FlowContext, drain
from leads_pipeline.storage.orders import OrdersWatch
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


VERIFYING = """
verification:
  providers: {checker: {vendor: reacher, base_url: "http://127.0.0.1:9"}}
  mailbox: [checker]
  tiers: {full: {lookups: [mailbox], patience_seconds: 30}, none: {}}
  triage: [{tier: full}]
"""


@pytest.fixture
def verifying(engine: sa.Engine, clock: FrozenClock) -> FlowContext:
    return FlowContext(engine, parse_settings(LEADS_YAML + VERIFYING, path=Path("l.yaml")), clock)


def validated(context: FlowContext, leads: int) -> dict[str, int]:
    """How many leads may be matched at once, and how many look-ups are asked for."""
    capture(context, leads)
    for stage in (Stage.RAW_LEADS, Stage.VALIDATED_LEADS):
        drain(context, stage, lanes=ALL_LANES, runner_id="test")
    with context.engine.connect() as connection:
        return {
            "ready": connection.execute(
                sa.text("select count(*) from pending where stage = 'deduped_leads' and due_at <= :now"),
                {"now": context.clock.now()},
            ).scalar_one(),
            "asked": connection.execute(sa.text("select count(*) from verification_requests")).scalar_one(),
        }


def test_leads_wait_for_their_look_ups_without_an_order(verifying: FlowContext):
    assert validated(verifying, 3) == {"ready": 0, "asked": 3}


def test_while_look_ups_are_shed_leads_go_on_at_once_and_are_looked_up_all_the_same(verifying: FlowContext):
    order(verifying.engine, "shed_enrichment", now=verifying.clock.now(), tenant="acme", lane="batch")

    assert validated(verifying, 3) == {"ready": 3, "asked": 3}


def test_while_a_tier_is_lowered_a_few_leads_are_looked_up_so_that_it_is_seen_when_it_is_over(verifying: FlowContext):
    order(verifying.engine, "lower_tier", now=verifying.clock.now())

    found = validated(verifying, 400)

    assert found["ready"] == 400 - found["asked"]
    assert 0 < found["asked"] < 100


@pytest.mark.parametrize(("speed", "pause"), [(0.25, 3.0), (None, 0.0)])
def test_an_import_keeps_the_share_of_its_speed_that_a_rule_leaves_it(
    context: FlowContext, clock: FrozenClock, speed: float | None, pause: float
):
    if speed is not None:
        order(context.engine, "slow_imports", now=clock.now(), tenant="acme", speed=speed)
    orders = OrdersWatch(context.engine, clock=clock)
    buffer = PostgresBuffer(context.engine)
    pace = pace_for(
        context.engine,
        buffer,
        settings=context.settings,
        clock=clock,
        ordered=lambda: orders.now().import_speed("acme"),
    )
    pace.wait()
    clock.advance(1.0)  # the work of one commit

    assert pace.wait() == pytest.approx(pause)
