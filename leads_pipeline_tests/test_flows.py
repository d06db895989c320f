"""The steps in their order, over a real database and a sandbox CRM, and what status and journey say of it."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from leads_pipeline import flows
from leads_pipeline.buffer.port import NewLead
from leads_pipeline.buffer.postgresql import PostgresBuffer
from leads_pipeline.cli import cli
from leads_pipeline.clock import FrozenClock, SystemClock
from leads_pipeline.config import DATABASE_URL_VARIABLE, parse_settings
from leads_pipeline.crm.sandbox.hubspot.options import HubSpotOptions
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline.domain.ids import LeadId, uuid7
from leads_pipeline.domain.stage import ALL_LANES, Chunk, ChunkReport, Lane, Stage
from leads_pipeline.flows import DRAINED_STAGES, FlowContext, StageFailed, drain, draining
from leads_pipeline.matching.model import shipped_parameters
from leads_pipeline.steps.deduped_leads import dedupe_leads
from leads_pipeline.steps.match_models import activate, rollback
from leads_pipeline.steps.rejected_leads import fix
from leads_pipeline.storage.conservation import conservation
from leads_pipeline.storage.journey import lead_journey, leads_of_email
from leads_pipeline.storage.pending import claim
from leads_pipeline_tests.conftest import LEADS_YAML
from leads_pipeline_tests.matching.models import changed, keep

ONE_LEAD = {"chunk_size": 1}
ADA = {"email": "Ada.Byron@engines.example", "first_name": "Ada", "last_name": "Byron", "company": "Analytical Engines"}


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    with running_sandbox(HubSpotOptions()) as running:
        yield running


@pytest.fixture
def context(engine: sa.Engine, sandbox: SandboxServer, tmp_state: Path) -> FlowContext:
    text = LEADS_YAML.replace("http://127.0.0.1:9", sandbox.base_url)
    (tmp_state / "leads.yaml").write_text(text, encoding="utf-8")
    return FlowContext(engine, parse_settings(text, path=tmp_state / "leads.yaml"), SystemClock())


def capture(context: FlowContext, *payloads: dict, tenant: str = "acme", lane: Lane = Lane.REAL_TIME) -> list[LeadId]:
    now = context.clock.now()
    leads = [
        NewLead(
            lead_id=uuid7(now),
            tenant=tenant,
            source="website",
            lane=lane,
            received_at=now,
            key_hex=uuid7(now).hex.rjust(64, "0"),
            body_hex="0" * 64,
            payload=payload,
            consent=[{"granted": True, "purpose": "marketing", "channel": "email"}],
            context={"ip": "203.0.113.7"},
        )
        for payload in payloads
    ]
    PostgresBuffer(context.engine).append(leads, now=now)
    return [LeadId(lead.lead_id) for lead in leads]


def run_chain(context: FlowContext) -> None:
    for stage in DRAINED_STAGES:
        drain(context, stage, lanes=ALL_LANES, runner_id="test")
    flows.deliver(context, flows.plan_sync(context, lanes=ALL_LANES), runner_id="test")


def test_a_lead_travels_from_the_buffer_to_the_crm(context: FlowContext, sandbox: SandboxServer):
    capture(context, ADA)

    run_chain(context)

    (contact,) = sandbox.contacts()
    assert contact["properties"]["email"] == "ada.byron@engines.example"
    assert contact["properties"]["firstname"] == "Ada"


def test_a_lead_that_was_rejected_and_fixed_is_delivered_under_its_own_id(context: FlowContext, sandbox: SandboxServer):
    [lead_id] = capture(context, {"email": "ada at engines.example", "first_name": "Ada"})
    states = []

    def note_state() -> None:
        with context.engine.connect() as connection:
            [account] = conservation(connection, destinations={"acme": ("hubspot",)})
        assert account.conserved
        states.extend(str(state) for state, leads in account.states.items() if leads)

    run_chain(context)
    note_state()
    fix(context.engine, lead_id, {"email": "ada@engines.example"}, actor="grace", now=context.clock.now())
    note_state()
    for stage in DRAINED_STAGES:
        drain(context, stage, lanes=ALL_LANES, runner_id="test")
        note_state()
    run_chain(context)
    note_state()

    assert states == ["rejected", *["pending"] * 5, "delivered"]
    (contact,) = sandbox.contacts()
    assert (contact["properties"]["email"], contact["properties"]["firstname"]) == ("ada@engines.example", "Ada")
    with context.engine.connect() as connection:
        journey = lead_journey(connection, lead_id)
    assert journey is not None
    events = [event.event for event in journey.events]
    assert [event for event in events if event in ("rejected", "corrected", "validated", "sent")] == [
        "rejected", "corrected", "validated", "sent",
    ]  # fmt: skip


def test_every_stage_reports_what_it_took_and_what_is_left(context: FlowContext):
    capture(context, ADA, {"email": "no address"})

    reports = {stage: drain(context, stage, lanes=ALL_LANES, runner_id="test") for stage in DRAINED_STAGES}

    assert [(reports[stage].taken, reports[stage].passed) for stage in DRAINED_STAGES] == [
        (2, 2),
        (2, 1),
        (1, 1),
        (1, 1),
    ]
    assert reports[Stage.VALIDATED_LEADS].counts["rejected"] == 1
    assert {report.remaining for report in reports.values()} == {0}


def test_what_is_not_in_the_lanes_that_were_asked_for_stays_and_is_counted(context: FlowContext):
    capture(context, ADA, lane=Lane.BATCH)

    report = drain(context, Stage.RAW_LEADS, lanes=(Lane.REAL_TIME,), runner_id="test")
    other = drain(context, Stage.RAW_LEADS, lanes=(Lane.BATCH,), runner_id="test")

    assert (report.taken, report.remaining, other.taken) == (0, 0, 1)


def test_one_tenants_flood_does_not_hold_up_anothers_lead(context: FlowContext, monkeypatch: pytest.MonkeyPatch):
    """Round robin: the small tenant's only chunk is taken right after the flood's first."""
    small = context.settings.model_copy(
        update={"pipeline": context.settings.pipeline.model_copy(update={"chunk_size": 5})}
    )
    capture(context, *({"email": f"p{number}@engines.example"} for number in range(50)))
    capture(context, ADA, tenant="globex")
    order: list[str] = []
    move = draining.move_raw_leads

    def noted(engine: sa.Engine, chunk: Chunk, **buffers: Any) -> ChunkReport:
        order.append(chunk.tenant)
        return move(engine, chunk, **buffers)

    monkeypatch.setattr(draining, "move_raw_leads", noted)

    drain(FlowContext(context.engine, small, context.clock), Stage.RAW_LEADS, lanes=ALL_LANES, runner_id="test")

    assert order[:3] == ["acme", "globex", "acme"]
    assert order.count("acme") == 10


def test_a_tenant_whose_chunk_fails_does_not_hold_up_the_others(context: FlowContext, monkeypatch: pytest.MonkeyPatch):
    capture(context, ADA)
    capture(context, ADA, tenant="globex")
    move = draining.move_raw_leads

    def breaks_for_acme(engine: sa.Engine, chunk: Chunk, **buffers: Any) -> ChunkReport:
        if chunk.tenant == "acme":
            raise ZeroDivisionError("ada.byron@engines.example")
        return move(engine, chunk, **buffers)

    monkeypatch.setattr(draining, "move_raw_leads", breaks_for_acme)

    with pytest.raises(StageFailed, match="chunks of acme failed with ZeroDivisionError") as failed:
        drain(context, Stage.RAW_LEADS, lanes=ALL_LANES, runner_id="test")

    assert "ada.byron" not in str(failed.value)
    assert (failed.value.tenants, failed.value.summary.taken) == (("acme",), 1)
    with context.engine.connect() as connection:
        left = connection.execute(sa.text("select tenant from buffer")).scalars().all()
    assert left == ["acme"], "the broken chunk is pending again, the other tenant was served"


def breaks_on(poison: set[UUID], stage: Stage, step):
    """A step that breaks whenever its chunk holds one of these subjects."""

    def broken(engine: sa.Engine, chunk: Chunk, **more) -> ChunkReport:
        with engine.connect() as connection:
            wanted = {subject.subject_id for subject in claim(connection, stage, chunk)}
            connection.rollback()
        if wanted & poison:
            raise ZeroDivisionError
        return step(engine, chunk, **more)

    return broken


def test_a_lead_on_which_a_step_breaks_is_set_aside_and_its_neighbours_go_on(
    context: FlowContext, monkeypatch: pytest.MonkeyPatch
):
    leads = capture(context, *({"email": f"p{number}@engines.example"} for number in range(40)))
    drain(context, Stage.RAW_LEADS, lanes=ALL_LANES, runner_id="test")
    monkeypatch.setattr(
        draining, "validate_leads", breaks_on({leads[17]}, Stage.VALIDATED_LEADS, draining.validate_leads)
    )

    with pytest.raises(StageFailed, match="1 set aside for 60 minutes; 39 were taken") as failed:
        drain(context, Stage.VALIDATED_LEADS, lanes=ALL_LANES, runner_id="test")

    assert failed.value.summary.counts["set_aside"] == 1
    assert failed.value.summary.remaining == 1
    monkeypatch.undo()
    again = drain(context, Stage.VALIDATED_LEADS, lanes=ALL_LANES, runner_id="test")
    assert again.taken == 0, "it is not due before the pause is over"
    later = FlowContext(context.engine, context.settings, FrozenClock(context.clock.now() + draining.POISON_PAUSE))
    assert drain(later, Stage.VALIDATED_LEADS, lanes=ALL_LANES, runner_id="test").taken == 1


def test_where_everything_breaks_only_a_few_are_set_aside(context: FlowContext, monkeypatch: pytest.MonkeyPatch):
    leads = capture(context, *({"email": f"p{number}@engines.example"} for number in range(20)))
    drain(context, Stage.RAW_LEADS, lanes=ALL_LANES, runner_id="test")
    monkeypatch.setattr(
        draining, "validate_leads", breaks_on(set(leads), Stage.VALIDATED_LEADS, draining.validate_leads)
    )

    with pytest.raises(StageFailed) as failed:
        drain(context, Stage.VALIDATED_LEADS, lanes=ALL_LANES, runner_id="test")

    assert failed.value.summary.counts["set_aside"] == draining.MOST_SET_ASIDE
    monkeypatch.undo()
    again = drain(context, Stage.VALIDATED_LEADS, lanes=ALL_LANES, runner_id="test")
    assert again.taken == 20 - draining.MOST_SET_ASIDE


@pytest.mark.parametrize(("run_seconds", "seconds"), [(1.0, None), (300.0, 1.0)])
def test_a_stage_stops_taking_chunks_when_its_time_is_up(
    run_seconds: float, seconds: float | None, context: FlowContext, monkeypatch: pytest.MonkeyPatch
):
    capture(context, *({"email": f"p{number}@engines.example"} for number in range(6)))
    pipeline = context.settings.pipeline.model_copy(update={"chunk_size": 2, "run_seconds": run_seconds})
    clock = FrozenClock(context.clock.now() + timedelta(seconds=1))
    move = draining.move_raw_leads

    def slow(engine: sa.Engine, chunk: Chunk, **buffers: Any) -> ChunkReport:
        clock.advance(0.7)
        return move(engine, chunk, **buffers)

    monkeypatch.setattr(draining, "move_raw_leads", slow)
    settings = context.settings.model_copy(update={"pipeline": pipeline})

    flow = FlowContext(context.engine, settings, clock)
    report = drain(flow, Stage.RAW_LEADS, lanes=ALL_LANES, runner_id="test", seconds=seconds)

    assert (report.chunks, report.taken, report.remaining) == (2, 4, 2)
    assert report.oldest_wait_seconds is not None


def test_a_journey_holds_every_decision_in_order_and_no_value(context: FlowContext):
    (lead_id,) = capture(context, ADA)
    run_chain(context)

    with context.engine.connect() as connection:
        journey = lead_journey(connection, lead_id)

    assert journey is not None
    tables = [event.table for event in journey.events]
    expected = ["raw_leads", "validated_leads", "deduped_leads", "golden_contacts", "sync_attempts", "outbox"]
    assert [table for table in dict.fromkeys(tables) if table in expected] == expected
    assert [event.at for event in journey.events] == sorted(event.at for event in journey.events)
    assert "consent given" in [event.event for event in journey.events]
    told = json.dumps([event.details for event in journey.events], default=str).lower()
    assert not [value for value in (*ADA.values(), "203.0.113.7") if value.lower() in told]


def test_leads_are_found_by_an_address_wherever_they_are(context: FlowContext):
    (delivered,) = capture(context, ADA)
    run_chain(context)
    (rejected,) = capture(context, {"email": "ada.byron@engines..example"})
    drain(context, Stage.RAW_LEADS, lanes=ALL_LANES, runner_id="test")
    drain(context, Stage.VALIDATED_LEADS, lanes=ALL_LANES, runner_id="test")
    (waiting,) = capture(context, ADA)

    with context.engine.connect() as connection:
        found = leads_of_email(connection, "ada.byron@engines.example", email=ADA["email"])
        broken = leads_of_email(connection, "", email="ada.byron@engines..example")

    assert set(found) == {delivered, waiting}
    assert broken == [rejected]


def test_status_and_journey_print_for_people_and_for_machines(
    context: FlowContext, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    (lead_id,) = capture(context, ADA)
    run_chain(context)
    capture(context, {"email": "bob@engines.example"}, lane=Lane.BATCH)
    base = ["--config", str(context.settings.path)]

    status = CliRunner().invoke(cli, [*base, "status", "--full"])
    as_json = json.loads(CliRunner().invoke(cli, [*base, "status", "--full", "--json"]).output)
    journey = CliRunner().invoke(cli, [*base, "journey", "Ada.Byron@engines.example"])
    lines = CliRunner().invoke(cli, [*base, "journey", str(lead_id), "--json"]).output.splitlines()

    assert status.exit_code == 0, status.output
    assert "raw_leads" in status.output
    assert "delivered" in status.output
    assert as_json["tenants"][0]["captured"] == 2
    assert as_json["tenants"][0]["conserved"] is True
    assert [queue["waiting"] for queue in as_json["queues"]] == [1]
    # One asked which properties there are.
    assert as_json["requests_last_day"] == [{"account": "sandbox", "requests": 2, "throttled": 0}]
    assert str(lead_id) in journey.output
    assert not [line for line in journey.output.splitlines() if len(line) > 80]
    assert re.search(r"contact=[0-9a-f-]{36}", journey.output), "an id stays whole"
    assert {json.loads(line)["lead_id"] for line in lines} == {str(lead_id)}
    *_events, summary = (json.loads(line) for line in lines)
    assert [item["station"] for item in summary["latencies"]][-2:] == ["golden_contacts", "delivered"]
    assert "test" in {run["runner"] for run in summary["runs"]}
    of_contact = CliRunner().invoke(cli, [*base, "journey", summary["contact_id"]])
    assert of_contact.output == CliRunner().invoke(cli, [*base, "journey", str(lead_id)]).output
    assert "after its capture: raw leads" in of_contact.output


def test_a_lead_that_nobody_knows_is_said_to_be_unknown(
    context: FlowContext, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    base = ["--config", str(context.settings.path)]

    unknown = CliRunner().invoke(cli, [*base, "journey", str(uuid7(context.clock.now()))])
    nonsense = CliRunner().invoke(cli, [*base, "journey", "hello"])

    assert "there is no lead" in str(unknown.exception)
    assert "neither a lead id" in nonsense.output


def test_the_chain_conserves_leads_whatever_is_sent(context: FlowContext):
    capture(context, ADA, {**ADA, "phone": "+1 212 555 0134"}, {"email": "?"}, {}, {"first_name": "\u202e"})

    run_chain(context)

    destinations = {name: tenant.destinations for name, tenant in context.settings.tenants.items()}
    with context.engine.connect() as connection:
        (account,) = conservation(connection, destinations=destinations)
    assert account.conserved
    assert {str(state): leads for state, leads in account.states.items() if leads} == {
        "delivered": 1,
        "merged": 1,
        "rejected": 3,
    }


def test_a_model_that_is_activated_between_two_chunks_scores_the_second(
    context: FlowContext, monkeypatch: pytest.MonkeyPatch
):
    now = context.clock.now()
    keep(context.engine, changed("better"), now=now)
    capture(context, ADA, ADA, {**ADA, "email": None, "phone": "+14155552671"})
    capture(context, ADA, tenant="globex")
    one_by_one = context.settings.model_copy(update={"pipeline": context.settings.pipeline.model_copy(update=ONE_LEAD)})
    flow, versions = FlowContext(context.engine, one_by_one, context.clock), []

    def dedupe(engine: sa.Engine, chunk: Chunk, **given: Any) -> ChunkReport:
        versions.append((chunk.tenant, given["scorer"].version))
        report = dedupe_leads(engine, chunk, **given)
        served = [tenant for tenant, _version in versions].count("acme") if chunk.tenant == "acme" else 0
        if served == 1:
            activate(engine, "acme", "better", actor="grace", reason=None, now=now)
        if served == 2:
            rollback(engine, "acme", actor="grace", reason=None, now=now)
        return report

    monkeypatch.setattr(draining, "dedupe_leads", dedupe)
    for stage in DRAINED_STAGES[:3]:
        drain(flow, stage, lanes=ALL_LANES, runner_id="test")

    shipped = shipped_parameters().version
    assert [version for tenant, version in versions if tenant == "acme"][:3] == [shipped, "better", shipped]
    assert {version for tenant, version in versions if tenant == "globex"} == {shipped}


def test_chunks_begin_small_and_grow_while_they_come_full(context: FlowContext):
    pipeline = context.settings.pipeline.model_copy(update={"first_chunk_size": 1, "chunk_size": 4})
    growing = FlowContext(context.engine, context.settings.model_copy(update={"pipeline": pipeline}), context.clock)
    capture(growing, *({"email": f"p{number}@engines.example"} for number in range(8)))
    drain(growing, Stage.RAW_LEADS, lanes=ALL_LANES, runner_id="test")
    with context.engine.connect() as connection:
        chunks = connection.execute(sa.text("select count(*) from raw_leads group by batch_id order by batch_id"))
        assert list(chunks.scalars()) == [1, 2, 4, 1]
