"""Leads that their vendor only named: asked for over real HTTP, kept waiting, let go on, never lost."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from leads_pipeline import flows
from leads_pipeline.buffer.port import NewLead
from leads_pipeline.buffer.postgresql import PostgresBuffer
from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import RequestLimits, Settings, WindowLimit, parse_settings
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.snapshot import acknowledged
from leads_pipeline.domain.stage import ALL_LANES, Lane, Stage
from leads_pipeline.flows import FlowContext, draining
from leads_pipeline.outbound.limiter import Limiter, Wait
from leads_pipeline.outbound.limiter_state import look
from leads_pipeline.steps.fetched_leads import ABSENT_PATIENCE, REFUSED_PAUSE, fetch_leads
from leads_pipeline.storage import measurements, schema
from leads_pipeline.storage.conservation import conservation
from leads_pipeline.storage.journey import lead_journey
from leads_pipeline.storage.lead_fetches import LEASE
from leads_pipeline_tests.conftest import LEADS_YAML, NOW
from leads_pipeline_tests.sources.vendors import TOKEN, Vendor, running_vendor
from leads_pipeline_tests.steps.rows import chunk, rows_of
from leads_pipeline_tests.storage.sessions import sessions_end

SOURCES = """
      ads:
        kind: meta
        lane: near_real_time
        lane_rules: [{lane: real_time, field: budget, at_least: 1000}]
        secret: {env: VENDOR_SECRET}
        access_token: {env: VENDOR_TOKEN}
        api_url: URL
        consent: [{path: newsletter, channel: email, text_version: "2026-01"}]
      portal:
        kind: hubspot
        public_url: https://leads.example.com/v1/in/acme/portal
        secret: {env: VENDOR_SECRET}
        access_token: {env: VENDOR_TOKEN}
        api_url: URL/
        mapping: {campaign: properties.utm_campaign, lead_source: {default: portal}}
"""


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Vendor]:
    monkeypatch.setenv("VENDOR_TOKEN", TOKEN)
    with running_vendor() as vendor:
        yield vendor


@pytest.fixture
def settings(settings: Settings, vendor: Vendor) -> Settings:
    sources = SOURCES.rstrip().replace("URL", vendor.base_url) + "\n    destinations: [hubspot]"
    return parse_settings(LEADS_YAML.replace("    destinations: [hubspot]", sources, 1), path=settings.path)


@pytest.fixture
def context(engine: sa.Engine, settings: Settings, clock: FrozenClock) -> FlowContext:
    return FlowContext(engine, settings, clock)


def named(engine: sa.Engine, reference: str, *, source: str = "ads", **payload: Any) -> UUID:
    """A post that names a lead, in the buffer, as the door leaves it there."""
    lead = NewLead(
        lead_id=uuid7(NOW),
        tenant="acme",
        source=source,
        lane=Lane.NEAR_REAL_TIME,
        received_at=NOW,
        key_hex=uuid7(NOW).hex.rjust(64, "0"),
        body_hex="0" * 64,
        payload={"leadgen_id" if source == "ads" else "objectId": reference, **payload},
        consent=[],
        context={"reference": reference, "sender_ip": "203.0.113.9"},
    )
    PostgresBuffer(engine).append([lead], now=NOW)
    return lead.lead_id


def intake(context: FlowContext) -> dict[str, int]:
    """The first stage, and what it counted."""
    return flows.drain(context, Stage.RAW_LEADS, lanes=ALL_LANES, runner_id="test").counts


def validate(context: FlowContext) -> dict[str, int]:
    return flows.drain(context, Stage.VALIDATED_LEADS, lanes=ALL_LANES, runner_id="test").counts


def only(engine: sa.Engine, table: sa.Table, **where: object) -> dict[str, Any]:
    [row] = rows_of(engine, table, **where)
    return row


def conserved(engine: sa.Engine) -> bool:
    with engine.connect() as connection:
        return all(item.conserved for item in conservation(connection, destinations={"acme": ("hubspot",)}))


def test_a_lead_of_meta_is_asked_for_and_goes_on_with_its_answers(
    engine: sa.Engine, context: FlowContext, vendor: Vendor
) -> None:
    vendor.meta["77"] = {"email": "anna@firm.com", "full_name": "Anna Berg", "budget": "500"}
    lead = named(engine, "77", form_id="9")

    counts = intake(context)

    assert counts["fetch_fetched"] == 1
    [asked] = vendor.asked
    assert (asked.path, asked.authorization) == ("/77", f"Bearer {TOKEN}")
    assert "field_data" in asked.query["fields"][0]
    raw = only(engine, schema.raw_leads)
    assert raw["payload"]["form_id"] == "9", "the post stays as it was"
    assert raw["payload"]["fetched"]["field_data"][0] == {"name": "email", "values": ["anna@firm.com"]}
    assert (raw["context"]["sender_ip"], raw["context"]["fetch_verdict"]) == ("203.0.113.9", "fetched")
    assert rows_of(engine, schema.lead_fetches) == []
    waiting = only(engine, schema.pending)
    assert (waiting["subject_id"], waiting["stage"], waiting["lane"]) == (lead, "validated_leads", "near_real_time")
    validate(context)
    valid = only(engine, schema.validated_leads)
    assert (valid["email"], valid["last_name"], valid["external_id"]) == ("anna@firm.com", "Berg", "77")


def test_a_contact_of_hubspot_is_asked_for_with_the_properties_that_are_mapped(
    engine: sa.Engine, context: FlowContext, vendor: Vendor
) -> None:
    vendor.hubspot["501"] = {"email": "ben@firm.com", "firstname": "Ben", "utm_campaign": "spring", "secret": "x"}
    named(engine, "501", source="portal", subscriptionType="contact.creation")

    intake(context)
    validate(context)

    [asked] = vendor.asked
    assert asked.path == "/crm/v3/objects/contacts/501"
    assert {"email", "firstname", "utm_campaign"} <= set(asked.query["properties"][0].split(","))
    valid = only(engine, schema.validated_leads)
    assert (valid["email"], valid["first_name"]) == ("ben@firm.com", "Ben")
    assert valid["attribution"] == {"campaign": "spring", "lead_source": "portal"}


def test_a_contact_that_our_own_delivery_made_is_no_lead_and_is_kept_as_an_echo(
    engine: sa.Engine, context: FlowContext, vendor: Vendor
) -> None:
    vendor.hubspot["501"] = {"email": "ben@firm.com", "lead_key": "01a200cf-500f-75d9-932c-24b0708ed33b"}
    vendor.hubspot["502"] = {"email": "ada@firm.com", "lead_key": ""}
    echo = named(engine, "501", source="portal", subscriptionType="contact.creation")
    named(engine, "502", source="portal", subscriptionType="contact.creation")

    intake(context)

    assert validate(context)["rejected"] == 1
    rejected = only(engine, schema.rejected_leads)
    assert (rejected["lead_id"], rejected["reasons"][0]["rule"]) == (echo, "echo")
    assert only(engine, schema.validated_leads)["email"] == "ada@firm.com"
    assert conserved(engine)


def test_a_change_that_people_made_to_a_contact_of_ours_is_a_lead(
    engine: sa.Engine, context: FlowContext, vendor: Vendor
) -> None:
    vendor.hubspot["501"] = {"email": "ben@firm.com", "lead_key": "01a200cf-500f-75d9-932c-24b0708ed33b"}
    named(engine, "501", source="portal", subscriptionType="contact.propertyChange")

    intake(context)

    assert validate(context)["rejected"] == 0
    assert only(engine, schema.validated_leads)["email"] == "ben@firm.com"


def _delivered(engine: sa.Engine, contact_id: UUID, **properties: str | int | bool) -> None:
    """An outbox row of a contact of which HubSpot took these properties."""
    with engine.begin() as connection:
        connection.execute(
            sa.insert(schema.outbox).values(
                tenant="acme", contact_id=contact_id, destination="hubspot", operation="upsert", state="delivered",
                lane="real_time", wanted_version=1, delivered_version=1, waiting_since=NOW, due_at=NOW, updated_at=NOW,
                snapshot={**acknowledged(contact_id, properties), "touched": None},
            )
        )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "rejected"),
    [
        ("company", "Firm", 1),
        ("company", "Other", 0),  # people changed it
        ("score", "70", 1),
        ("opted_in", "true", 1),
        ("touched", "perhaps ours", 0),  # a request with it got lost
        ("jobtitle", "Head", 0),  # never ours
        ("lead_key", "01a200cf-500f-75d9-932c-24b0708ed33b", 1),
    ],
)
def test_a_property_that_our_own_delivery_set_is_no_lead_and_one_that_people_changed_is(
    engine: sa.Engine, context: FlowContext, vendor: Vendor, name: str, value: str, rejected: int
) -> None:
    ours = UUID("01a200cf-500f-75d9-932c-24b0708ed33b")
    _delivered(engine, ours, company="Firm", score=70, opted_in=True)
    vendor.hubspot["501"] = {"email": "ben@firm.com", "lead_key": str(ours)}
    named(
        engine, "501", source="portal", subscriptionType="contact.propertyChange", propertyName=name,
        propertyValue=value,
    )  # fmt: skip

    intake(context)

    assert validate(context)["rejected"] == rejected
    assert [row["reasons"][0]["rule"] for row in rows_of(engine, schema.rejected_leads)] == ["echo"] * rejected


def test_a_key_of_nobody_s_or_of_another_tenant_s_contact_makes_no_echo(
    engine: sa.Engine, context: FlowContext, vendor: Vendor
) -> None:
    ours = UUID("01a200cf-500f-75d9-932c-24b0708ed33b")
    _delivered(engine, ours, company="Firm")
    with engine.begin() as connection:
        connection.execute(sa.update(schema.outbox).values(tenant="globex"))
    vendor.hubspot["501"] = {"email": "ben@firm.com", "lead_key": str(ours)}
    vendor.hubspot["502"] = {"email": "ada@firm.com", "lead_key": "not a key"}
    for number in ("501", "502"):
        named(
            engine, number, source="portal", subscriptionType="contact.propertyChange", propertyName="company",
            propertyValue="Firm",
        )  # fmt: skip

    intake(context)

    assert validate(context)["rejected"] == 0


def test_the_answers_decide_the_lane_and_are_the_leads_consent(
    engine: sa.Engine, context: FlowContext, vendor: Vendor
) -> None:
    vendor.meta["1"] = {"email": "a@firm.com", "budget": "5000", "newsletter": "yes"}
    vendor.meta["2"] = {"email": "b@firm.com", "newsletter": "perhaps"}
    urgent, doubtful = named(engine, "1"), named(engine, "2")

    intake(context)

    event = only(engine, schema.consent_events)
    assert (event["lead_id"], event["position"], event["granted"], event["channel"], event["text_version"]) == (
        urgent, 1, True, "email", "2026-01",
    )  # fmt: skip
    assert event["occurred_at"] == NOW
    assert only(engine, schema.pending, subject_id=urgent)["lane"] == "real_time"
    assert only(engine, schema.raw_leads, lead_id=urgent)["capture_lane"] == "real_time"
    [kept] = only(engine, schema.raw_leads, lead_id=doubtful)["payload"]["consent_malformed"]
    assert kept["granted"] == "perhaps"


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (500, {}, {}),
        (503, {"Retry-After": "7"}, b"down for maintenance"),
        (200, {}, b"<html>not what was asked for</html>"),
        (200, {}, {"id": "1"}),
        (400, {}, {"error": {"code": 2, "message": "temporary"}}),
        (418, {}, []),
    ],
)
def test_a_vendors_trouble_with_a_lead_postpones_that_lead_alone(
    engine: sa.Engine, context: FlowContext, vendor: Vendor, clock: FrozenClock, status: int, headers: Any, body: Any
) -> None:
    vendor.meta |= {"1": {"email": "a@firm.com"}, "2": {"email": "b@firm.com"}}
    vendor.script = [(status, headers, body)]
    first = named(engine, "1")
    intake(context)
    waiting = only(engine, schema.lead_fetches)
    assert (waiting["lead_id"], waiting["attempts"], waiting["last_verdict"]) == (first, 1, "failed")
    assert NOW + timedelta(seconds=1) <= waiting["due_at"] <= NOW + timedelta(seconds=2)

    second = named(engine, "2")
    assert intake(context)["fetch_fetched"] == 1
    assert only(engine, schema.pending)["subject_id"] == second
    assert conserved(engine)
    clock.advance(2)
    assert intake(context)["fetch_fetched"] == 1
    assert conserved(engine)


def test_each_failure_makes_the_next_wait_longer(
    engine: sa.Engine, context: FlowContext, vendor: Vendor, clock: FrozenClock
) -> None:
    vendor.script = [(500, {}, {}) for _ in range(20)]
    named(engine, "1")
    waits: list[float] = []
    for _ in range(15):
        intake(context)
        waits.append((only(engine, schema.lead_fetches)["due_at"] - clock.now()).total_seconds())
        clock.advance(waits[-1])

    assert all(2**n <= wait <= 2 ** (n + 1) for n, wait in enumerate(waits[:10]))
    assert max(waits) <= 3_600
    assert only(engine, schema.lead_fetches)["attempts"] == 15


@pytest.mark.parametrize(
    ("source", "answer", "seconds"),
    [
        ("ads", (429, {"Retry-After": "40"}, {}), 40),
        ("ads", (400, {}, {"error": {"code": 4}}), 60),
        ("ads", (400, {"Retry-After": "soon"}, {"error": {"code": 80_005}}), 60),
        ("portal", (429, {"Retry-After": "999999999"}, {}), 86_400),
        ("portal", (429, {}, {"policyName": "TEN_SECONDLY_ROLLING"}), 10),
        ("portal", (429, {}, {"policyName": "DAILY"}), 3_600),
    ],
)
def test_a_vendor_that_asks_for_a_pause_is_left_alone_for_as_long(
    engine: sa.Engine, context: FlowContext, vendor: Vendor, clock: FrozenClock, source: str, answer: Any, seconds: int
) -> None:
    for number in range(9):
        named(engine, str(number), source=source)
    # Four are under way at once; the others are not sent after the first refusal.
    vendor.script = [answer] * 4

    assert intake(context)["fetch_throttled"] == 4
    assert len(vendor.asked) == 4
    waiting = rows_of(engine, schema.lead_fetches)
    assert {row["due_at"] for row in waiting} == {NOW + timedelta(seconds=seconds)}
    assert {row["attempts"] for row in waiting} == {0}
    clock.advance(seconds - 1)
    intake(context)
    assert len(vendor.asked) == 4
    assert conserved(engine)


def test_a_refused_token_keeps_every_lead_waiting_and_the_stage_shows_their_age(
    engine: sa.Engine, context: FlowContext, vendor: Vendor, clock: FrozenClock, capsys: pytest.CaptureFixture[str]
) -> None:
    vendor.meta["1"] = {"email": "a@firm.com"}
    vendor.token = "another"
    named(engine, "1")
    for _ in range(3):
        assert intake(context)["fetch_refused"] == 1
        assert only(engine, schema.lead_fetches)["due_at"] == clock.now() + REFUSED_PAUSE
        clock.advance(REFUSED_PAUSE.total_seconds())
    with engine.connect() as connection:
        [queue] = measurements.queues(connection)
    assert (queue.stage, queue.oldest_seconds(clock.now())) == (Stage.RAW_LEADS, 900)
    printed = capsys.readouterr()
    assert "fetching_paused" in printed.out + printed.err
    assert TOKEN not in printed.out + printed.err

    vendor.token = TOKEN
    assert intake(context)["fetch_fetched"] == 1


def test_without_a_token_leads_wait_and_nothing_is_asked(
    engine: sa.Engine, context: FlowContext, vendor: Vendor, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor.meta |= {"1": {"email": "a@firm.com"}, "2": {"email": "b@firm.com"}}
    named(engine, "1")
    named(engine, "2")
    monkeypatch.delenv("VENDOR_TOKEN")
    assert intake(context)["fetch_not_configured"] == 1
    assert vendor.asked == []
    assert {row["last_verdict"] for row in rows_of(engine, schema.lead_fetches)} == {"not_configured"}

    monkeypatch.setenv("VENDOR_TOKEN", TOKEN)
    clock.advance(REFUSED_PAUSE.total_seconds())
    assert intake(context)["fetch_fetched"] == 2


def test_a_vendor_that_cannot_be_reached_is_tried_again(
    engine: sa.Engine, context: FlowContext, vendor: Vendor, clock: FrozenClock
) -> None:
    def unreachable(source: Any) -> Any:
        return source.model_copy(update={"api_url": "http://127.0.0.1:9"})

    acme = context.settings.tenants["acme"]
    away = acme.model_copy(update={"sources": {**acme.sources, "ads": unreachable(acme.sources["ads"])}})
    settings = context.settings.model_copy(update={"tenants": {**context.settings.tenants, "acme": away}})
    vendor.meta["1"] = {"email": "a@firm.com"}
    named(engine, "1")

    assert intake(FlowContext(engine, settings, clock))["fetch_unreachable"] == 1
    assert only(engine, schema.lead_fetches)["attempts"] == 1
    clock.advance(2)
    assert intake(context)["fetch_fetched"] == 1


@pytest.mark.parametrize(("source", "status"), [("portal", 404), ("portal", 410), ("ads", 404)])
def test_a_lead_that_the_vendor_has_not_any_more_is_rejected_for_that(
    engine: sa.Engine, context: FlowContext, vendor: Vendor, source: str, status: int
) -> None:
    vendor.script = [(status, {}, {})]
    lead = named(engine, "1", source=source)

    assert intake(context)["fetch_gone"] == 1
    assert conserved(engine)
    assert validate(context)["rejected"] == 1
    rejected = only(engine, schema.rejected_leads)
    assert (rejected["lead_id"], rejected["reasons"][0]["rule"]) == (lead, "not_fetched")
    assert conserved(engine)


def test_a_lead_that_meta_does_not_show_is_asked_for_until_a_permission_would_have_been_given(
    engine: sa.Engine, context: FlowContext, vendor: Vendor, clock: FrozenClock
) -> None:
    named(engine, "1")
    assert intake(context)["fetch_absent"] == 1
    clock.advance(ABSENT_PATIENCE.total_seconds() - 1)
    assert intake(context)["fetch_absent"] == 1
    clock.advance(3_600)
    assert intake(context)["fetch_gone"] == 1
    assert validate(context)["rejected"] == 1


def test_meta_keeps_a_lead_for_ninety_days_and_so_long_it_is_asked_for(
    engine: sa.Engine, context: FlowContext, vendor: Vendor, clock: FrozenClock
) -> None:
    vendor.script = [(500, {}, {})] * 3
    named(engine, "1")
    named(engine, "2", source="portal")
    vendor.token = "another"
    intake(context)
    clock.advance(timedelta(days=89).total_seconds())
    intake(context)
    assert len(rows_of(engine, schema.lead_fetches)) == 2
    clock.advance(timedelta(days=1).total_seconds())
    assert intake(context)["fetch_expired"] == 1
    assert only(engine, schema.lead_fetches)["source"] == "portal", "HubSpot keeps a contact until it is deleted"
    assert validate(context)["rejected"] == 1


def test_an_answer_that_the_database_cannot_keep_is_kept_in_another_form(
    engine: sa.Engine, context: FlowContext, vendor: Vendor
) -> None:
    vendor.meta |= {"1": {"email": "a\x00@firm.com"}, "2": {"email": "b@firm.com"}}
    odd, good = named(engine, "1"), named(engine, "2")

    assert intake(context)["fetch_fetched"] == 2
    validate(context)
    rejected = only(engine, schema.rejected_leads)
    assert (rejected["lead_id"], rejected["reasons"][0]["rule"]) == (odd, "unreadable_body")
    assert "\\u0000" in only(engine, schema.raw_leads, lead_id=odd)["payload"]["fetched"]["raw_body"]
    assert only(engine, schema.validated_leads)["lead_id"] == good


def test_a_reference_that_belongs_to_no_source_any_more_waits(engine: sa.Engine, context: FlowContext) -> None:
    named(engine, "1", source="gone")
    assert intake(context)["fetch_not_configured"] == 1
    assert only(engine, schema.lead_fetches)["source"] == "gone"
    assert conserved(engine)


def test_one_tenants_leads_in_the_buffer_go_on_before_anybody_is_asked(
    engine: sa.Engine, context: FlowContext, vendor: Vendor
) -> None:
    vendor.meta["1"] = {"email": "a@firm.com"}
    moved: list[int] = []
    vendor.before_answer = lambda: moved.append(len(rows_of(engine, schema.pending)))
    named(engine, "1")
    post = {"lead_id": uuid7(NOW), "key_hex": "1" * 64, "body_hex": "1" * 64, "payload": {"email": "x@firm.com"}}
    PostgresBuffer(engine).append(
        [NewLead(tenant="globex", source="website", lane=Lane.BATCH, received_at=NOW, consent=[], context={}, **post)],
        now=NOW,
    )

    intake(context)
    assert moved == [1]


def test_a_slow_vendor_holds_the_stage_up_for_no_longer_than_its_budget(
    engine: sa.Engine, context: FlowContext, vendor: Vendor, clock: FrozenClock
) -> None:
    for number in range(9):
        named(engine, str(number))
        vendor.meta[str(number)] = {"email": f"p{number}@firm.com"}
    vendor.before_answer = lambda: clock.advance(draining.FETCH_BUDGET.total_seconds())

    assert intake(context)["fetch_fetched"] == 4
    assert len(vendor.asked) == 4
    assert {row["last_verdict"] for row in rows_of(engine, schema.lead_fetches)} == {None}
    assert intake(context)["fetch_fetched"] == 4, "what is left is due at once"


def test_a_source_that_asks_with_a_destinations_token_spends_that_accounts_quota(
    engine: sa.Engine, context: FlowContext, vendor: Vendor, clock: FrozenClock
) -> None:
    for number in range(5):
        named(engine, str(number), source="portal")
        vendor.hubspot[str(number)] = {"email": f"p{number}@firm.com"}
    limits = RequestLimits(windows=(WindowLimit(requests=2, seconds=3_600),), daily=None)
    token = context.settings.tenants["acme"].sources["portal"].access_token
    account = context.settings.destinations["hubspot"].model_copy(update={"limits": limits, "token": token})
    settings = context.settings.model_copy(update={"destinations": {"hubspot": account}})

    counts = intake(FlowContext(engine, settings, clock))

    assert counts["fetch_fetched"] == len(vendor.asked) == 2
    assert isinstance(Limiter(engine, account="sandbox", limits=limits).peek(), Wait)
    assert {row["last_verdict"] for row in rows_of(engine, schema.lead_fetches)} == {"throttled"}
    assert conserved(engine)


def test_a_lead_that_is_asked_for_counts_as_under_way_until_its_time_out_and_ten_seconds(
    engine: sa.Engine, context: FlowContext, vendor: Vendor, clock: FrozenClock
) -> None:
    named(engine, "1", source="portal")
    vendor.hubspot["1"] = {"email": "p@firm.com"}
    limits = RequestLimits(windows=(), daily=None, shared_in_flight=1)
    token = context.settings.tenants["acme"].sources["portal"].access_token
    account = context.settings.destinations["hubspot"].model_copy(update={"limits": limits, "token": token})
    settings = context.settings.model_copy(update={"destinations": {"hubspot": account}})
    under_way: list[float] = []

    def remember() -> None:
        with engine.connect() as connection:
            row = look(connection, "sandbox", "api")
        under_way.extend(item.expires_at / 1000 - row.now.timestamp() for item in row.state.in_flight.values())

    vendor.before_answer = remember
    intake(FlowContext(engine, settings, clock))
    [seconds] = under_way
    assert seconds <= 20


def test_two_workers_do_not_ask_for_the_same_lead(
    engine: sa.Engine, settings: Settings, vendor: Vendor, clock: FrozenClock, context: FlowContext
) -> None:
    vendor.meta = {str(number): {"email": f"p{number}@firm.com"} for number in range(8)}
    with engine.begin() as connection:
        for reference in vendor.meta:
            lead_id = uuid7(NOW)
            connection.execute(
                sa.insert(schema.raw_leads).values(
                    lead_id=lead_id, tenant="acme", source="ads", capture_lane="batch", received_at=NOW,
                    payload={"leadgen_id": reference}, context={"reference": reference}, batch_id=uuid7(NOW),
                    runner_id="test", moved_at=NOW,
                )
            )  # fmt: skip
            connection.execute(
                sa.insert(schema.lead_fetches).values(
                    lead_id=lead_id, tenant="acme", source="ads", lane="batch", reference=reference, since=NOW,
                    due_at=NOW,
                )
            )  # fmt: skip
    both = threading.Barrier(2, timeout=30)
    met = threading.Event()

    def wait_for_the_other() -> None:
        if not met.is_set():
            both.wait()
            met.set()

    vendor.before_answer = wait_for_the_other
    reports: list[int] = []
    workers = [
        threading.Thread(
            target=lambda: reports.append(fetch_leads(engine, chunk(limit=1), settings=settings, clock=clock).passed)
        )
        for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert reports == [1, 1]
    assert len({asked.path for asked in vendor.asked}) == 2


def test_who_answers_after_the_lease_finds_the_lead_settled_and_changes_nothing(
    engine: sa.Engine, context: FlowContext, settings: Settings, vendor: Vendor, clock: FrozenClock
) -> None:
    vendor.meta["1"] = {"email": "a@firm.com", "newsletter": "yes"}
    named(engine, "1")
    late: list[bool] = []

    def meanwhile() -> None:
        if late:
            return
        late.append(True)
        now = NOW + LEASE + timedelta(seconds=1)
        assert fetch_leads(engine, chunk(now=now), settings=settings, clock=FrozenClock(now)).passed == 1

    vendor.before_answer = meanwhile
    intake(context)
    assert len(vendor.asked) == 2
    assert len(rows_of(engine, schema.pending)) == 1
    assert len(rows_of(engine, schema.consent_events)) == 1
    assert conserved(engine)


DYING = """
import os, signal, sys
from datetime import datetime
from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import load_settings
from leads_pipeline.steps import fetched_leads
from leads_pipeline.storage.database import engine_for
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.steps.rows import chunk

def die(*_args, **_how):
    os.kill(os.getpid(), signal.SIGKILL)

setattr(fetched_leads, sys.argv[2], die)
engine = engine_for(sys.argv[1])
fetched_leads.fetch_leads(engine, chunk(), settings=load_settings(sys.argv[3]), clock=FrozenClock(NOW))
"""


@pytest.mark.parametrize("moment", ["release_fetches", "store_fetched", "enqueue", "postpone_fetches"])
def test_a_worker_that_dies_with_the_answer_in_hand_has_only_asked(
    engine: sa.Engine, database_url: str, context: FlowContext, settings: Settings, vendor: Vendor, clock: FrozenClock,
    moment: str, tmp_path: Path,
) -> None:  # fmt: skip
    vendor.script = [(400, {}, {"error": {"code": 190}})]
    vendor.meta["1"] = {"email": "a@firm.com", "newsletter": "yes"}
    named(engine, "1")
    intake(context)  # moved; the token was refused that time
    with engine.begin() as connection:
        connection.execute(sa.text("update lead_fetches set due_at = :now"), {"now": NOW})
    file = tmp_path / "leads.yaml"
    sources = SOURCES.rstrip().replace("URL", vendor.base_url) + "\n    destinations: [hubspot]"
    file.write_text(LEADS_YAML.replace("    destinations: [hubspot]", sources, 1), encoding="utf-8")

    command = [sys.executable, "-c", DYING, database_url, moment, str(file)]
    with sessions_end(engine):
        died = subprocess.run(command, env={**os.environ}, timeout=120, check=False)

    assert died.returncode == -signal.SIGKILL
    assert len(vendor.asked) == 2
    assert rows_of(engine, schema.pending) == []
    assert conserved(engine)
    assert "fetch_fetched" not in intake(context), "the lease holds"
    clock.advance(LEASE.total_seconds())
    assert intake(context)["fetch_fetched"] == 1
    assert len(rows_of(engine, schema.pending)) == 1
    assert len(rows_of(engine, schema.consent_events)) == 1
    assert conserved(engine)


def test_the_journey_shows_that_a_lead_waits_for_its_vendor_and_how_it_was_answered(
    engine: sa.Engine, context: FlowContext, vendor: Vendor, clock: FrozenClock
) -> None:
    vendor.script = [(500, {}, {})]
    vendor.meta["1"] = {"email": "a@firm.com"}
    lead = named(engine, "1")

    def events() -> list[str]:
        with engine.connect() as connection:
            found = lead_journey(connection, lead)
        assert found is not None
        assert "a@firm.com" not in str(found)
        return [event.event for event in found.events]

    intake(context)
    assert "waits for its vendor to be asked" in events()
    clock.advance(5)
    intake(context)
    assert events() == [
        "captured", "moved out of the buffer", "its vendor was asked: fetched",
        "waits at the door of validated_leads",
    ]  # fmt: skip


def test_a_lead_that_is_due_to_be_asked_for_is_work_for_the_sensor(
    engine: sa.Engine, context: FlowContext, vendor: Vendor, clock: FrozenClock
) -> None:
    vendor.script = [(429, {"Retry-After": "40"}, {})]
    named(engine, "1")
    intake(context)

    def due() -> tuple[Stage, ...]:
        with engine.connect() as connection:
            return measurements.stages_due(
                connection, tenants=["acme"], doors=[], lanes=[Lane.NEAR_REAL_TIME], now=clock.now()
            )

    assert due() == ()
    clock.advance(40)
    assert due() == (Stage.RAW_LEADS,)
