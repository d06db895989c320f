"""How long leads took, as a whole flow over a sandbox CRM measures it: each lead once at each station."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from leads_pipeline import flows
from leads_pipeline.buffer.port import NewLead
from leads_pipeline.buffer.postgresql import PostgresBuffer
from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import parse_settings
from leads_pipeline.crm.sandbox.hubspot.options import HubSpotOptions
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline.domain.ids import LeadId, uuid7
from leads_pipeline.domain.latency import Station, bucket_of
from leads_pipeline.domain.stage import ALL_LANES, Lane, Stage
from leads_pipeline.flows import DRAINED_STAGES, FlowContext, drain
from leads_pipeline.steps.contact_decisions import merge
from leads_pipeline.steps.rejected_leads import fix
from leads_pipeline.storage import outbox
from leads_pipeline.storage.contact_deciding import Ruling
from leads_pipeline.storage.latency import measure_nothing, read_latencies
from leads_pipeline.storage.replays import Window
from leads_pipeline_tests.conftest import LEADS_YAML, NOW
from leads_pipeline_tests.crm.delivering import TOKEN
from leads_pipeline_tests.defs.rows import insert

ADA = {"email": "ada@engines.example", "first_name": "Ada", "last_name": "Byron"}
GRACE = {"email": "grace@navy.example", "first_name": "Grace", "last_name": "Hopper"}
Seen = dict[tuple[str, str, str], dict[int, int]]


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    with running_sandbox(HubSpotOptions(token=TOKEN).without_limits()) as running:
        yield running


@pytest.fixture
def context(engine: sa.Engine, sandbox: SandboxServer, tmp_state: Path, clock: FrozenClock) -> FlowContext:
    text = LEADS_YAML.replace("http://127.0.0.1:9", sandbox.base_url)
    return FlowContext(engine, parse_settings(text, path=tmp_state / "leads.yaml"), clock)


def capture(context: FlowContext, *payloads: dict[str, str], lane: Lane = Lane.REAL_TIME) -> list[LeadId]:
    now = context.clock.now()
    leads = [
        NewLead(
            lead_id=uuid7(now),
            tenant="acme",
            source="website",
            lane=lane,
            received_at=now,
            key_hex=uuid7(now).hex.rjust(64, "0"),
            body_hex="0" * 64,
            payload=dict(payload),
            consent=[],
            context={},
        )
        for payload in payloads
    ]
    PostgresBuffer(context.engine).append(leads, now=now)
    return [LeadId(lead.lead_id) for lead in leads]


def run_chain(context: FlowContext, *, apart: float = 0) -> None:
    """Every stage once, with so many seconds before each."""
    assert isinstance(context.clock, FrozenClock)
    for stage in DRAINED_STAGES:
        context.clock.advance(apart)
        drain(context, stage, lanes=ALL_LANES, runner_id="test")
    context.clock.advance(apart)
    flows.deliver(context, flows.plan_sync(context, lanes=ALL_LANES), runner_id="test")


def measured(context: FlowContext) -> Seen:
    with context.engine.connect() as connection:
        found = read_latencies(connection, since=NOW - timedelta(days=1), until=NOW + timedelta(days=30))
    return {(item.lane, item.station, item.destination): dict(item.counts) for item in found}


def test_every_station_of_a_lead_is_measured_from_its_capture(context: FlowContext):
    capture(context, ADA)
    run_chain(context, apart=10)
    assert measured(context) == {
        ("real_time", Station.RAW_LEADS, ""): {bucket_of(10): 1},
        ("real_time", Station.VALIDATED_LEADS, ""): {bucket_of(20): 1},
        ("real_time", Station.VERIFIED, ""): {bucket_of(20): 1},  # it needed no look-up, and was let on at once
        ("real_time", Station.DEDUPED_LEADS, ""): {bucket_of(30): 1},
        ("real_time", Station.GOLDEN_CONTACTS, ""): {bucket_of(40): 1},
        ("real_time", Station.DELIVERED, "hubspot"): {bucket_of(50): 1},
    }


def test_a_chunk_writes_a_row_for_each_station_and_not_for_each_lead(context: FlowContext):
    capture(context, *({"email": f"lead{n}@firm{n}.example"} for n in range(40)))
    run_chain(context)
    with context.engine.connect() as connection:
        rows = connection.execute(sa.text("select stage, count(*) from latency_measurements group by stage")).all()
    assert {row.stage: row.count for row in rows} == dict.fromkeys(Station, 1)


def test_who_wants_nothing_measured_gets_nothing_measured(context: FlowContext):
    capture(context, ADA)
    run_chain(replace(context, measure=measure_nothing))
    assert measured(context) == {}


def test_running_again_measures_nothing_again(context: FlowContext):
    capture(context, ADA)
    run_chain(context)
    before = measured(context)
    run_chain(context, apart=1000)
    assert measured(context) == before


def test_a_lead_that_was_let_on_by_its_patience_was_verified_when_that_ended(context: FlowContext):
    capture(context, ADA)
    for stage in (Stage.RAW_LEADS, Stage.VALIDATED_LEADS):
        drain(context, stage, lanes=ALL_LANES, runner_id="test")
    with context.engine.begin() as connection:
        connection.execute(
            sa.text("update pending set due_at = :at where stage = 'deduped_leads'"),
            {"at": context.clock.now() + timedelta(seconds=120)},
        )
    assert isinstance(context.clock, FrozenClock)
    context.clock.advance(500)
    run_chain(context)
    seen = measured(context)
    assert seen["real_time", Station.VERIFIED, ""] == {bucket_of(120): 1}
    assert seen["real_time", Station.DEDUPED_LEADS, ""] == {bucket_of(500): 1}


def test_a_later_lead_of_a_known_person_is_measured_and_the_earlier_one_is_not_again(context: FlowContext):
    capture(context, ADA)
    run_chain(context)
    assert isinstance(context.clock, FrozenClock)
    context.clock.advance(10_000)
    capture(context, {**ADA, "company": "Engines"}, lane=Lane.BATCH)
    run_chain(context, apart=2)
    seen = measured(context)
    assert seen["batch", Station.GOLDEN_CONTACTS, ""] == {bucket_of(8): 1}
    assert seen["batch", Station.DELIVERED, "hubspot"] == {bucket_of(10): 1}
    assert seen["real_time", Station.DELIVERED, "hubspot"] == {0: 1}


def test_a_contact_that_the_destination_holds_already_is_an_arrival_all_the_same(context: FlowContext):
    capture(context, ADA)
    run_chain(context)
    capture(context, ADA)  # nothing of it is new to the CRM, and no request is sent
    run_chain(context)
    assert measured(context)["real_time", Station.DELIVERED, "hubspot"] == {0: 2}


def merge_the_two(context: FlowContext) -> None:
    with context.engine.begin() as connection:
        one, other = connection.execute(sa.text("select contact_id from contacts order by 1")).scalars()
    merge(context.engine, one, other, Ruling("ada", context.clock.now()))


def test_leads_of_a_contact_that_is_merged_into_another_are_not_measured_again(context: FlowContext):
    capture(context, ADA, GRACE)
    run_chain(context)
    before = measured(context)
    assert before["real_time", Station.DELIVERED, "hubspot"] == {0: 2}
    assert isinstance(context.clock, FrozenClock)
    context.clock.advance(10_000)
    merge_the_two(context)
    run_chain(context)
    with context.engine.connect() as connection:
        assert connection.execute(sa.text("select lead_count from golden_contacts")).scalars().all() == [2]
    assert measured(context) == before


def up_to(context: FlowContext, last: Stage) -> None:
    for stage in DRAINED_STAGES[: DRAINED_STAGES.index(last) + 1]:
        drain(context, stage, lanes=ALL_LANES, runner_id="test")


def replay_all(context: FlowContext, replay_id: str = "r1") -> None:
    window = Window(NOW - timedelta(days=1), NOW + timedelta(days=30))
    flows.replay(context, window, stage=Stage.VALIDATED_LEADS, replay_id=replay_id, actor="ada", runner_id="test")


@pytest.mark.parametrize("came_to", [Stage.VALIDATED_LEADS, Stage.DEDUPED_LEADS, Stage.GOLDEN_CONTACTS])
def test_a_replayed_lead_is_measured_in_its_own_lane_wherever_it_had_not_come_yet(context: FlowContext, came_to: Stage):
    capture(context, ADA)
    up_to(context, came_to)
    assert isinstance(context.clock, FrozenClock)
    context.clock.advance(10_000)
    replay_all(context)
    replay_all(context, "r2")
    run_chain(context)
    replay_all(context, "r3")
    run_chain(context)
    late, soon = {bucket_of(10_000): 1}, {0: 1}
    seen = measured(context)
    assert {station: seen.pop(("real_time", station, "")) for station in list(Station)[:5]} == {
        Station.RAW_LEADS: soon,
        Station.VALIDATED_LEADS: soon,
        Station.VERIFIED: soon,  # it was let on at once, and waits
        Station.DEDUPED_LEADS: late if came_to is Stage.VALIDATED_LEADS else soon,
        Station.GOLDEN_CONTACTS: soon if came_to is Stage.GOLDEN_CONTACTS else late,
    }
    assert seen == {("real_time", Station.DELIVERED, "hubspot"): late}


def test_leads_of_a_contact_that_is_merged_before_it_was_sent_are_measured_once_when_they_are(context: FlowContext):
    capture(context, ADA, GRACE)
    up_to(context, Stage.GOLDEN_CONTACTS)
    assert isinstance(context.clock, FrozenClock)
    context.clock.advance(10_000)
    merge_the_two(context)
    run_chain(context)
    replay_all(context)
    run_chain(context)
    seen = measured(context)
    assert seen["real_time", Station.GOLDEN_CONTACTS, ""] == {0: 2}
    assert seen["real_time", Station.DELIVERED, "hubspot"] == {bucket_of(10_000): 2}


def test_a_lead_that_a_mended_rule_lets_pass_is_not_measured(context: FlowContext):
    [lead_id] = capture(context, ADA)
    drain(context, Stage.RAW_LEADS, lanes=ALL_LANES, runner_id="test")
    with context.engine.begin() as connection:
        connection.execute(sa.text("delete from pending"))
        insert(connection, "rejected_leads", now=NOW, tenant="acme", lead_id=lead_id, revision=1, reasons=[])
    replay_all(context)
    run_chain(context, apart=100)
    with context.engine.connect() as connection:
        assert connection.execute(sa.text("select state from outbox")).scalars().all() == ["delivered"]
    assert set(measured(context)) == {("real_time", Station.RAW_LEADS, "")}


def test_a_lead_that_a_person_corrected_is_not_measured_from_then_on(context: FlowContext):
    [lead_id] = capture(context, {"email": "ada at engines.example"})
    run_chain(context)
    assert set(measured(context)) == {("real_time", Station.RAW_LEADS, "")}
    fix(context.engine, lead_id, {"email": "ada@engines.example"}, actor="grace", now=context.clock.now())
    run_chain(context, apart=10_000)
    with context.engine.connect() as connection:
        assert connection.execute(sa.text("select state from outbox")).scalars().all() == ["delivered"]
    assert set(measured(context)) == {("real_time", Station.RAW_LEADS, "")}


def test_a_destination_that_was_added_later_does_not_count_the_leads_of_before(context: FlowContext):
    capture(context, ADA)
    run_chain(context)
    before = measured(context)
    settings = context.settings
    tenant = settings.tenants["acme"].model_copy(update={"destinations": ("hubspot", "other")})
    known = settings.destinations["hubspot"]
    added = replace(
        context,
        settings=settings.model_copy(
            update={
                "tenants": {**settings.tenants, "acme": tenant},
                "destinations": {"hubspot": known, "other": known},
            }
        ),
    )
    assert isinstance(context.clock, FrozenClock)
    context.clock.advance(100_000)
    run_chain(added)
    with context.engine.connect() as connection:
        states = connection.execute(sa.text("select destination, state from outbox order by 1")).all()
    assert [tuple(row) for row in states] == [("hubspot", "delivered"), ("other", "delivered")]
    assert measured(context) == before
    capture(added, GRACE)
    run_chain(added)
    assert measured(context)["real_time", Station.DELIVERED, "other"] == {0: 1}


def test_a_contact_that_was_held_back_does_not_count_the_time_of_that(context: FlowContext):
    capture(context, ADA)
    for stage in DRAINED_STAGES:
        drain(context, stage, lanes=ALL_LANES, runner_id="test")
    with context.engine.begin() as connection:
        [outbox_id] = connection.execute(sa.text("select outbox_id from outbox")).scalars()
        until = NOW + timedelta(minutes=1)
        assert outbox.claim(connection, [outbox_id], token="mine", until=until, now=NOW)
        outbox.suppress(connection, {outbox_id: "consent"}, token="mine", now=NOW)
    assert isinstance(context.clock, FrozenClock)
    context.clock.advance(100_000)
    capture(context, {**ADA, "company": "Engines"})
    run_chain(context, apart=1)
    assert measured(context)["real_time", Station.DELIVERED, "hubspot"] == {bucket_of(5): 1}
