"""A lead's journey holds what each table knows of it: calls, holds, attempts, what held it up, what became of it."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.domain.ids import LeadId, uuid7
from leads_pipeline.domain.outcomes import OutcomeKind
from leads_pipeline.storage import schema
from leads_pipeline.storage.journey import Journey, JourneyEvent, lead_journey, leads_of_contact
from leads_pipeline.storage.journey_delivery import CHAPTERS as OF_DELIVERY
from leads_pipeline.storage.journey_identity import CHAPTERS as OF_IDENTITY
from leads_pipeline.storage.journey_intake import CHAPTERS as OF_INTAKE
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.defs.rows import Flow, insert

# Tables that know a lead or its contact and have no chapter, and why.
UNTOLD = {
    "ingest_keys": "no index by lead; tells nothing that raw_leads does not",
    "match_records": "the values by which it is compared",
    "match_keys": "the same, hashed",
    "contacts": "told with deduped_leads and merge_log",
    "destination_doors": "of a destination, not of a contact",
}


@pytest.fixture
def connection(engine: sa.Engine) -> Iterator[sa.Connection]:
    with engine.connect() as connection:
        yield connection


@pytest.fixture
def flow(connection: sa.Connection, clock: FrozenClock) -> Flow:
    return Flow(connection, clock.now())


def told(connection: sa.Connection, lead: UUID) -> Journey:
    found = lead_journey(connection, LeadId(lead))
    assert found is not None
    return found


def of_table(connection: sa.Connection, lead: UUID, table: str) -> list[JourneyEvent]:
    return [event for event in told(connection, lead).events if event.table == table]


def test_every_table_that_knows_a_lead_or_a_contact_has_a_chapter_or_a_reason() -> None:
    columns = {"lead_id", "contact_id", "subject_id", "other_lead_id", "dead_letter_id"}
    knowing = {name for name, table in schema.metadata.tables.items() if columns & set(table.columns.keys())}
    told_of = {**OF_INTAKE, **OF_IDENTITY, **OF_DELIVERY}.keys()
    assert {name.rpartition(".")[2] for name in knowing} - told_of - UNTOLD.keys() <= {"identity_link_leads"}
    assert not told_of & UNTOLD.keys()


def test_the_call_in_which_a_lead_was_looked_up_is_told(connection: sa.Connection, flow: Flow) -> None:
    lead = flow.validated()
    call = uuid7(NOW)
    flow.insert("verification_calls", call_id=call, provider="zero", kind="mailbox", lookups=7, outcome="answered",
                http_status=200, sent_at=NOW, answered_at=NOW + timedelta(seconds=2))  # fmt: skip
    flow.insert("verifications", lead_id=lead, revision=1, kind="mailbox", call_id=call, verdict="valid")
    [event] = of_table(connection, lead, "verification_calls")
    assert event.event == "a provider was asked"
    assert (event.details["provider"], event.details["outcome"], event.details["answered_after_seconds"]) == (
        "zero", "answered", 2,
    )  # fmt: skip


def test_a_hold_of_its_source_and_day_is_told_to_a_lead_of_the_batch_lane_only(
    connection: sa.Connection, clock: FrozenClock
) -> None:
    batch, hot = Flow(connection, clock.now(), lane="batch"), Flow(connection, clock.now())
    held, passed = batch.at_dedupe(), hot.at_dedupe()
    batch.insert("quality_holds", received_on=NOW.date(), rules=["phone_share"], held_at=NOW, resolution="released",
                 ended_at=NOW + timedelta(hours=1), ended_by="ada", reason="looked at")  # fmt: skip
    assert [event.event for event in of_table(connection, held, "quality_holds")] == [
        "its source and day were held back", "the hold ended: released",
    ]  # fmt: skip
    assert of_table(connection, passed, "quality_holds") == []


def test_what_was_done_with_a_dead_letter_is_told(connection: sa.Connection, flow: Flow) -> None:
    lead = flow.dead()
    letter = connection.execute(sa.text("select dead_letter_id from dead_letters")).scalar_one()
    flow.insert("dead_letter_actions", dead_letter_id=letter, action="redrive", actor="ada", reason="mended",
                acted_at=NOW, details={})  # fmt: skip
    connection.execute(sa.text("update dead_letters set resolved_at = :at, resolution = 'redriven'"), {"at": NOW})
    found = of_table(connection, lead, "dead_letter_actions")
    assert {event.event for event in found} == {"dead letter: redrive", "the dead letter was closed: redriven"}


def test_an_outcome_is_told_to_its_lead_and_one_of_a_contact_to_each_of_its_leads(
    connection: sa.Connection, flow: Flow
) -> None:
    founder = flow.delivered()
    joined = flow.merged(founder)
    values = {"occurred_at": NOW + timedelta(days=1), "key_id": "k"}
    flow.insert("outcomes", kind=OutcomeKind.HARD_BOUNCE, lead_id=joined, **values)
    flow.insert("outcomes", kind=OutcomeKind.WON, contact_id=flow.contact_of(founder), amount=100, **values)
    flow.insert("outcomes", **{"kind": OutcomeKind.LOST, "lead_id": joined, **values, "tenant": "globex"})
    assert [event.event for event in of_table(connection, founder, "outcomes")] == ["outcome: won"]
    assert {event.event for event in of_table(connection, joined, "outcomes")} == {
        "outcome: hard_bounce", "outcome: won",
    }  # fmt: skip


def test_the_gates_that_were_closed_while_a_lead_waited_are_told_from_when_to_when(
    connection: sa.Connection, flow: Flow
) -> None:
    waiting = flow.golden(waiting_since=NOW)
    delivered = flow.delivered(delivered_at=NOW + timedelta(minutes=30))
    minute, far = timedelta(minutes=1), NOW + timedelta(days=36_500)

    def closed(gate: str, begins: int, ends: int | None, **values: Any) -> None:
        given = {"tenant": "acme", "lane": "", "state": "closed", "reason": "two", "until": far, **values}
        ended = {} if ends is None else {"ended_at": NOW + ends * minute}
        insert(connection, "gate_history", now=NOW, gate=gate, began_at=NOW + begins * minute, **given, **ended)

    closed("before", -20, -10)
    closed("early", -5, 10)
    closed("late", 40, 50)
    closed("others", 0, None, tenant="globex")
    closed("lapsed", 12, None, until=NOW + 15 * minute)
    closed("ruled", 20, 25, ruled_by="ann", reason="bad import")
    closed("still", 60, None)

    found = of_table(connection, delivered, "gate_history")
    assert [(event.details["gate"], event.at - NOW, event.event) for event in found] == [
        ("early", 0 * minute, "a gate was closed for it"),
        ("lapsed", 12 * minute, "a gate was closed for it"),
        ("ruled", 20 * minute, "an operator ruled on a gate: closed"),
    ]
    assert "12:10" in found[0].details["until"]
    told_waiting = {event.details["gate"]: event.event for event in of_table(connection, waiting, "gate_history")}
    assert told_waiting.keys() == {"early", "lapsed", "ruled", "late", "still"}
    assert told_waiting["still"] == "a gate is closed for it"


def order(connection: sa.Connection, **values: Any) -> None:
    given = {
        "action": "pause_lane", "policy": "slow-crm", "target": "", "parameters": {}, "cause": {"measure": "throttled"},
        "ends_at": NOW + timedelta(hours=1), "began_at": NOW, **values,
    }  # fmt: skip
    insert(connection, "policy_actions", now=NOW, **given)


def test_orders_that_were_in_force_while_it_waited_are_told(connection: sa.Connection, flow: Flow) -> None:
    lead = flow.delivered(delivered_at=NOW + timedelta(minutes=30))
    order(connection, policy="for-all")
    order(connection, policy="its-lane", lane="real_time", tenant="acme", target="a")
    order(connection, policy="other-lane", lane="batch", target="b")
    order(connection, policy="other-tenant", tenant="globex", target="c")
    order(connection, policy="over-before", ends_at=NOW, target="d", began_at=NOW - timedelta(hours=1))
    order(connection, policy="after", began_at=NOW + timedelta(minutes=40), target="e")
    order(connection, policy="rehearsed", parameters={"dry_run": True}, target="f")
    found = of_table(connection, lead, "policy_actions")
    assert {event.details["rule"] for event in found} == {"for-all", "its-lane"}
    assert found[0].event == "an order was in force: pause_lane"


@pytest.mark.parametrize("place", ["rejected", "dead", "discarded"])
def test_an_order_of_after_it_was_refused_or_taken_out_is_not_told(
    connection: sa.Connection, flow: Flow, place: str
) -> None:
    leads = {
        "rejected": flow.rejected,
        "dead": lambda: flow.golden(state="dead", updated_at=NOW),
        "discarded": lambda: flow.disposed("discarded"),
    }
    lead = leads[place]()
    order(connection, policy="while-it-was-on-its-way", began_at=NOW - timedelta(hours=1), target="a")
    order(connection, policy="a-day-later", began_at=NOW + timedelta(days=1), ends_at=NOW + timedelta(days=2))
    assert [event.details["rule"] for event in of_table(connection, lead, "policy_actions")] == [
        "while-it-was-on-its-way"
    ]


def test_a_journey_says_when_a_lead_came_by_each_station_and_which_runs_worked_on_it(
    connection: sa.Connection, flow: Flow
) -> None:
    lead = flow.delivered()
    contact = flow.contact_of(lead)
    for seconds, verdict in ((20, "throttled"), (30, "delivered"), (90, "delivered")):
        at = NOW + timedelta(seconds=seconds)
        flow.insert("sync_attempts", batch_id=uuid7(at), contact_id=contact, destination="hubspot", version=1,
                    attempt=1, verdict=verdict, sent_at=at, settled_at=at)  # fmt: skip
    connection.execute(
        sa.text("update raw_leads set moved_at = :at, runner_id = 'r1'"), {"at": NOW + timedelta(seconds=1)}
    )
    found = told(connection, lead)
    by_station = {item.station: item.seconds for item in found.arrivals}
    assert list(by_station) == ["raw_leads", "validated_leads", "deduped_leads", "golden_contacts", "delivered"]
    assert (by_station["raw_leads"], by_station["delivered"]) == (1, 30)
    assert {item.destination for item in found.arrivals} == {None, "hubspot"}
    connection.execute(sa.text("update deduped_leads set golden_version = 7, first_golden_version = 1"))
    assert told(connection, lead).arrivals[-1].seconds == 30, "a replay has it delivered no later"
    assert "r1" in {run.runner_id for run in found.runs}
    assert sum(run.rows for run in found.runs) == sum("runner" in event.details for event in found.events)


def test_what_is_left_of_a_lead_that_lost_its_first_row_is_shown(connection: sa.Connection, flow: Flow) -> None:
    lead = flow.delivered()
    connection.execute(sa.text("delete from raw_leads"))
    assert "assigned to a contact" in {event.event for event in told(connection, lead).events}


def test_a_contact_s_leads_are_found_by_its_id_also_after_a_merge(connection: sa.Connection, flow: Flow) -> None:
    founder, other = flow.delivered(), flow.delivered()
    joined = flow.merged(founder)
    gone, contact = flow.contact_of(other), flow.contact_of(founder)
    assert set(leads_of_contact(connection, contact)) == {founder, joined}
    connection.execute(
        sa.text("update contacts set merged_into = :into where contact_id = :gone"), {"into": contact, "gone": gone}
    )
    assert set(leads_of_contact(connection, gone)) == {founder, joined}
    assert leads_of_contact(connection, uuid7(NOW)) == []


def test_every_chapter_goes_by_an_index(connection: sa.Connection, flow: Flow) -> None:
    flow.one_of_each()
    connection.execute(sa.text("set local enable_seqscan = off"))
    unindexed = {}
    for table, statement in {**OF_INTAKE, **OF_IDENTITY, **OF_DELIVERY}.items():
        names = {"lead_id": uuid7(NOW), "contact_id": uuid7(NOW), "tenant": "acme"}
        given = {name: value for name, value in names.items() if f":{name}" in statement}
        plan = json.dumps([row[0] for row in connection.execute(sa.text(f"explain {statement}"), given)])
        if "Seq Scan" in plan:
            unindexed[table] = plan
    # Switches, rules in force, gates and replays are few, whatever there is of leads.
    assert unindexed.keys() <= {"verification_switches", "policy_actions", "gate_history", "replays"}
