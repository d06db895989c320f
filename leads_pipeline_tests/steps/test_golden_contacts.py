"""The step from deduped_leads to golden_contacts and the outbox, on a real database."""

import threading
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from leads_pipeline.config import Settings, parse_settings
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.stage import ChunkReport, Lane, Operation, OutboxState
from leads_pipeline.steps.golden_contacts import refresh_golden_contacts
from leads_pipeline.storage import outbox_demand, schema
from leads_pipeline.storage.dead_letters import DeadLetter, write_dead_letters
from leads_pipeline.storage.identity import lock_identity
from leads_pipeline_tests.conftest import LEADS_YAML, NOW
from leads_pipeline_tests.steps.rows import (
    TENANT,
    ask_for,
    chunk,
    claimed,
    contact,
    delivered,
    member,
    merge,
    rows_of,
)

LATER = NOW + timedelta(hours=1)


def one(engine: sa.Engine, table: sa.Table, **where: object) -> dict[str, Any]:
    (row,) = rows_of(engine, table, **where)
    return row


def everything(engine: sa.Engine) -> list[list[dict[str, Any]]]:
    tables = (schema.golden_contacts, schema.outbox, schema.deduped_leads, schema.contacts)
    return [rows_of(engine, table) for table in tables]


def test_nothing_pending_is_nothing_done(engine: sa.Engine, settings: Settings) -> None:
    assert refresh_golden_contacts(engine, chunk(), settings=settings) == ChunkReport(taken=0, passed=0, counts={})


def test_a_contacts_leads_make_its_golden_row_and_every_destination_wants_it(
    engine: sa.Engine, settings: Settings
) -> None:
    person = contact(engine)
    first = member(engine, person, email="anna@firm.com", full_name="Anna Smith", campaign="spring")
    last = member(
        engine, person, source="webinar", lane=Lane.REAL_TIME, received_at=LATER, phone="+14155552671",
        last_name="Smyth", company="Acme", consent=({"granted": True},),
    )  # fmt: skip
    this = chunk(now=LATER)

    report = refresh_golden_contacts(engine, this, settings=settings)

    assert (report.taken, report.passed, report.counts["created"]) == (1, 1, 1)
    row = one(engine, schema.golden_contacts)
    assert (row["contact_id"], row["tenant"], row["version"], row["lead_count"]) == (person, TENANT, 1, 2)
    assert (row["batch_id"], row["runner_id"], row["updated_at"]) == (this.batch_id, "test", LATER)
    assert (row["email"], row["email_key"], row["phone"]) == ("anna@firm.com", "anna@firm.com", "+14155552671")
    assert (row["first_name"], row["last_name"], row["company"]) == ("Anna", "Smith", "Acme")
    assert (row["first_source"], row["last_source"]) == ("website", "webinar")
    assert (row["first_seen_at"], row["last_seen_at"]) == (NOW, LATER)
    assert row["provenance"]["email"] == {"lead_id": str(first), "received_at": NOW.isoformat(), "rule": "only_value"}
    assert row["attribution"]["first"]["campaign"] == "spring"
    assert row["consent"] == {
        "marketing": {"email": {"granted": True, "as_of": LATER.isoformat(), "lead_id": str(last)}}
    }
    assert {lead["golden_version"] for lead in rows_of(engine, schema.deduped_leads)} == {1}
    wanted = one(engine, schema.outbox)
    assert {name: wanted[name] for name in ("contact_id", "destination", "operation", "state", "lane")} == {
        "contact_id": person, "destination": "hubspot", "operation": "upsert", "state": "waiting", "lane": "real_time",
    }  # fmt: skip
    assert (wanted["wanted_version"], wanted["delivered_version"], wanted["attempts"]) == (1, None, 0)
    assert (wanted["waiting_since"], wanted["due_at"]) == (LATER, LATER)
    assert rows_of(engine, schema.pending) == []


def test_asking_again_changes_nothing(engine: sa.Engine, settings: Settings) -> None:
    person = contact(engine)
    member(engine, person, email="anna@firm.com", date_of_birth="1980-02-21", consent=({"granted": True},))
    refresh_golden_contacts(engine, chunk(), settings=settings)
    delivered(engine, person)
    before = everything(engine)
    ask_for(engine, person)
    report = refresh_golden_contacts(engine, chunk(now=LATER), settings=settings)
    assert (report.taken, report.counts["unchanged"], report.counts["updated"]) == (1, 1, 0)
    assert everything(engine) == before


def test_a_new_lead_makes_a_new_version_even_if_it_says_nothing_new(engine: sa.Engine, settings: Settings) -> None:
    person = contact(engine)
    first = member(engine, person, email="anna@firm.com")
    refresh_golden_contacts(engine, chunk(), settings=settings)
    delivered(engine, person)
    second = member(engine, person, email="anna@firm.com", lane=Lane.BATCH, received_at=LATER)
    refresh_golden_contacts(engine, chunk(now=LATER), settings=settings)
    included = {lead["lead_id"]: lead["golden_version"] for lead in rows_of(engine, schema.deduped_leads)}
    assert included == {first: 1, second: 2}
    wanted = one(engine, schema.outbox)
    assert (wanted["wanted_version"], wanted["delivered_version"], wanted["state"], wanted["lane"]) == (
        2, 1, OutboxState.WAITING, Lane.BATCH,
    )  # fmt: skip
    assert (wanted["crm_record_id"], wanted["waiting_since"]) == ("501", LATER)


def test_a_lead_that_takes_anothers_place_makes_a_new_version(engine: sa.Engine, settings: Settings) -> None:
    """Nothing that is shown changes, but a version that was delivered does not include the newcomer."""
    person, other = contact(engine), contact(engine)
    hour = timedelta(hours=1)
    _first, middle, _last = (
        member(engine, person, email="anna@firm.com", received_at=NOW + number * hour) for number in range(3)
    )
    refresh_golden_contacts(engine, chunk(), settings=settings)
    newcomer = member(engine, person, email="anna@firm.com", received_at=NOW + hour)
    with engine.begin() as connection:
        leaves = schema.deduped_leads.c.lead_id == middle
        connection.execute(sa.update(schema.deduped_leads).where(leaves).values(contact_id=other))
    refresh_golden_contacts(engine, chunk(now=LATER), settings=settings)
    assert one(engine, schema.golden_contacts, contact_id=person)["version"] == 2
    assert one(engine, schema.deduped_leads, lead_id=newcomer)["golden_version"] == 2
    assert one(engine, schema.outbox, contact_id=person)["wanted_version"] == 2


def test_a_withdrawal_on_its_own_makes_a_new_version(engine: sa.Engine, settings: Settings) -> None:
    person = contact(engine)
    member(engine, person, email="anna@firm.com", consent=({"granted": True},))
    refresh_golden_contacts(engine, chunk(), settings=settings)
    member(engine, person, email="anna@firm.com", consent=({"granted": False, "channel": "any"},))
    refresh_golden_contacts(engine, chunk(), settings=settings)
    row = one(engine, schema.golden_contacts)
    assert (row["version"], row["consent"]["marketing"]["email"]["granted"]) == (2, False)


def test_a_withdrawal_goes_where_its_lead_goes_in_a_merge_and_in_its_undo(
    engine: sa.Engine, settings: Settings
) -> None:
    def granted() -> dict[Any, bool]:
        return {
            row["contact_id"]: row["consent"]["marketing"]["email"]["granted"]
            for row in rows_of(engine, schema.golden_contacts)
        }

    older, newer = contact(engine, at=NOW - timedelta(days=1)), contact(engine)
    member(engine, older, email="anna@firm.com", consent=({"granted": True},))
    withdrawal = member(
        engine, newer, email="anna@other.com", received_at=LATER, consent=({"granted": False, "channel": "any"},),
    )  # fmt: skip
    with engine.begin() as connection:  # both know of it under one name
        connection.execute(sa.update(schema.consent_events).values(channel="email"))
    refresh_golden_contacts(engine, chunk(now=LATER), settings=settings)
    assert granted() == {older: True, newer: False}
    merge(engine, newer, into=older)
    refresh_golden_contacts(engine, chunk(now=LATER), settings=settings)
    assert granted() == {older: False}
    with engine.begin() as connection:  # the undo
        connection.execute(
            sa.update(schema.deduped_leads)
            .where(schema.deduped_leads.c.lead_id == withdrawal)
            .values(contact_id=newer, golden_version=None)
        )
        connection.execute(sa.update(schema.contacts).values(merged_into=None))
    ask_for(engine, older, newer)
    refresh_golden_contacts(engine, chunk(now=LATER), settings=settings)
    assert granted() == {older: True, newer: False}
    merge(engine, newer, into=older)  # and again
    refresh_golden_contacts(engine, chunk(now=LATER), settings=settings)
    assert granted() == {older: False}


def test_what_waits_keeps_its_place_and_its_urgency(engine: sa.Engine, settings: Settings) -> None:
    person = contact(engine)
    member(engine, person, email="anna@firm.com", lane=Lane.REAL_TIME)
    refresh_golden_contacts(engine, chunk(), settings=settings)
    member(engine, person, email="anna@firm.com", lane=Lane.BATCH, received_at=LATER)
    refresh_golden_contacts(engine, chunk(now=LATER), settings=settings)
    wanted = one(engine, schema.outbox)
    assert (wanted["wanted_version"], wanted["lane"], wanted["waiting_since"], wanted["due_at"]) == (
        2, Lane.REAL_TIME, NOW, LATER,
    )  # fmt: skip


@pytest.mark.parametrize(("value", "lane"), [(70, Lane.NEAR_REAL_TIME), (69, Lane.BATCH)])
def test_a_verified_and_valuable_contact_is_delivered_before_the_rest_of_its_batch(
    engine: sa.Engine, settings: Settings, value: int, lane: Lane
) -> None:
    lead = member(engine, contact(engine), email="anna@firm.com", lane=Lane.BATCH)
    with engine.begin() as connection:
        connection.execute(sa.update(schema.validated_leads).values(value_score=value, risk_score=0))
    found_valid(engine, lead)
    refresh_golden_contacts(engine, chunk(), settings=settings)
    assert one(engine, schema.outbox)["lane"] == lane


def found_valid(engine: sa.Engine, lead: UUID) -> None:
    """A provider's verdict about a lead's mailbox."""
    with engine.begin() as connection:
        connection.execute(
            sa.insert(schema.verifications).values(
                verification_id=uuid7(NOW), tenant=TENANT, lead_id=lead, revision=1, kind="mailbox", tier="full",
                provider="zerobounce", verdict="valid", reasons=[], flags=[], details={}, requested_at=NOW,
                verified_at=NOW, batch_id=uuid7(NOW), runner_id="test",
            )
        )  # fmt: skip


@pytest.mark.parametrize(("was_sent", "lane"), [(False, Lane.NEAR_REAL_TIME), (True, Lane.BATCH)])
def test_a_verdict_that_comes_late_hurries_a_contact_that_still_waits_to_be_sent_for_the_first_time(
    engine: sa.Engine, settings: Settings, was_sent: bool, lane: Lane
) -> None:
    person = contact(engine)
    lead = member(engine, person, email="anna@firm.com", lane=Lane.BATCH)
    with engine.begin() as connection:
        connection.execute(sa.update(schema.validated_leads).values(value_score=70, risk_score=0))
    refresh_golden_contacts(engine, chunk(), settings=settings)
    assert one(engine, schema.outbox)["lane"] == Lane.BATCH
    if was_sent:
        with engine.begin() as connection:
            connection.execute(sa.update(schema.outbox).values(delivered_version=1))
    found_valid(engine, lead)
    ask_for(engine, person, lane=Lane.BATCH)
    refresh_golden_contacts(engine, chunk(now=LATER), settings=settings)
    row = one(engine, schema.outbox)
    assert (row["wanted_version"], row["lane"], row["waiting_since"]) == (2, lane, NOW)


def test_a_delivery_under_way_keeps_its_claim_while_more_is_wanted(engine: sa.Engine, settings: Settings) -> None:
    person = contact(engine)
    member(engine, person, email="anna@firm.com")
    refresh_golden_contacts(engine, chunk(), settings=settings)
    claimed(engine, person)
    member(engine, person, email="anna@firm.com", received_at=LATER)
    refresh_golden_contacts(engine, chunk(now=LATER), settings=settings)
    wanted = one(engine, schema.outbox)
    assert (wanted["state"], wanted["claimed_by"], wanted["wanted_version"]) == (OutboxState.IN_FLIGHT, "token", 2)
    assert wanted["claimed_until"] == NOW + timedelta(minutes=5)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (OutboxState.DEAD, OutboxState.WAITING),  # what was refused has changed
        (OutboxState.SUPPRESSED, OutboxState.WAITING),  # the gate judges it anew
        (OutboxState.DELIVERED, OutboxState.WAITING),
    ],
)
def test_a_new_version_wakes_what_is_dead_and_what_is_suppressed(
    engine: sa.Engine, settings: Settings, before: OutboxState, after: OutboxState
) -> None:
    person = contact(engine)
    member(engine, person, email="anna@firm.com")
    refresh_golden_contacts(engine, chunk(), settings=settings)
    with engine.begin() as connection:
        connection.execute(sa.update(schema.outbox).values(state=before, attempts=7))
    member(engine, person, email="anna@firm.com", received_at=LATER)
    refresh_golden_contacts(engine, chunk(now=LATER), settings=settings)
    wanted = one(engine, schema.outbox)
    assert (wanted["state"], wanted["attempts"], wanted["wanted_version"]) == (after, 0, 2)


def test_merged_contacts_leave_one_golden_row_and_what_was_sent_is_archived(
    engine: sa.Engine, settings: Settings
) -> None:
    old, new = contact(engine, at=NOW - timedelta(days=1)), contact(engine)
    member(engine, old, email="anna@firm.com")
    member(engine, new, email="anna@other.com", lane=Lane.BATCH, received_at=LATER)
    refresh_golden_contacts(engine, chunk(), settings=settings)
    delivered(engine, old, crm_record_id="500")
    delivered(engine, new)
    member(engine, old, email="anna@firm.com", lane=Lane.REAL_TIME)
    merge(engine, new, into=old)

    report = refresh_golden_contacts(engine, chunk(now=LATER), settings=settings)

    assert (report.counts["removed"], report.counts["archived"], report.counts["cancelled"]) == (1, 1, 0)
    row = one(engine, schema.golden_contacts)
    assert (row["contact_id"], row["version"], row["lead_count"], row["email"]) == (old, 2, 3, "anna@other.com")
    assert {lead["golden_version"] for lead in rows_of(engine, schema.deduped_leads, contact_id=old)} == {1, 2}
    archived = one(engine, schema.outbox, contact_id=new)
    assert (archived["operation"], archived["state"], archived["due_at"]) == (
        Operation.ARCHIVE,
        OutboxState.WAITING,
        LATER,
    )
    assert (archived["wanted_version"], archived["delivered_version"], archived["crm_record_id"]) == (2, 1, "501")
    # Until the archive is done, the CRM may refuse the survivor for the address that the other record holds.
    assert archived["lane"] == one(engine, schema.outbox, contact_id=old)["lane"] == Lane.REAL_TIME


def test_a_merged_contact_that_was_never_sent_is_cancelled(engine: sa.Engine, settings: Settings) -> None:
    old, new = contact(engine, at=NOW - timedelta(days=1)), contact(engine)
    member(engine, old, email="anna@firm.com")
    member(engine, new, email="anna@other.com")
    refresh_golden_contacts(engine, chunk(), settings=settings)
    merge(engine, new, into=old)
    report = refresh_golden_contacts(engine, chunk(now=LATER), settings=settings)
    assert (report.counts["archived"], report.counts["cancelled"]) == (0, 1)
    cancelled = one(engine, schema.outbox, contact_id=new)
    assert (cancelled["operation"], cancelled["state"], cancelled["wanted_version"]) == ("upsert", "cancelled", 1)
    ask_for(engine, old)
    again = refresh_golden_contacts(engine, chunk(now=LATER), settings=settings)
    assert (again.counts["cancelled"], again.counts["unchanged"]) == (0, 1)


def test_a_dead_letter_of_a_merged_contact_is_closed(engine: sa.Engine, settings: Settings) -> None:
    """Its row is cancelled: redriving or discarding it would do nothing, and it would stand on the screen for ever."""
    old, new = contact(engine, at=NOW - timedelta(days=1)), contact(engine)
    member(engine, old, email="anna@firm.com")
    member(engine, new, email="anna@other.com")
    refresh_golden_contacts(engine, chunk(), settings=settings)
    dead = one(engine, schema.outbox, contact_id=new)
    letter = DeadLetter(
        uuid7(NOW), TENANT, new, "hubspot", dead["outbox_id"], 1, reason="invalid", code="X", attempts=1, died_at=NOW
    )
    with engine.begin() as connection:
        connection.execute(sa.text("update outbox set state = 'dead' where contact_id = :id"), {"id": new})
        write_dead_letters(connection, [letter])
    merge(engine, new, into=old)
    refresh_golden_contacts(engine, chunk(now=LATER), settings=settings)
    closed = one(engine, schema.dead_letters)
    assert (closed["resolved_at"], closed["resolution"]) == (LATER, "superseded")


def test_withdrawing_many_contacts_costs_a_look_up_each_also_without_statistics(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("alter table outbox set (autovacuum_enabled = off)"))
        connection.execute(
            sa.text(
                """
                insert into outbox (
                    tenant, contact_id, destination, operation, state, lane, wanted_version, waiting_since, due_at,
                    updated_at
                )
                select 'acme', gen_random_uuid(), 'hubspot', 'upsert', 'waiting', 'batch', 1, :now, :now, :now
                from generate_series(1, 20000)
                """
            ),
            {"now": NOW},
        )
        values = {"tenant": "acme", "now": NOW, "rows": "[]"}
        plan = "\n".join(connection.execute(sa.text(f"explain {outbox_demand._WITHDRAW.text}"), values).scalars())
    assert "uq_outbox_contact_id_destination" in plan
    assert "ix_outbox_tenant_state" not in plan


@pytest.mark.parametrize("last_verdict", [None, "ambiguous"])
def test_what_may_have_been_sent_is_archived_and_a_claim_is_not_taken_away(
    engine: sa.Engine, settings: Settings, last_verdict: str | None
) -> None:
    old, new = contact(engine, at=NOW - timedelta(days=1)), contact(engine)
    member(engine, old, email="anna@firm.com")
    member(engine, new, email="anna@other.com")
    refresh_golden_contacts(engine, chunk(), settings=settings)
    if last_verdict is None:
        claimed(engine, new)
    else:
        with engine.begin() as connection:
            connection.execute(sa.update(schema.outbox).values(last_verdict=last_verdict))
    merge(engine, new, into=old)
    refresh_golden_contacts(engine, chunk(now=LATER), settings=settings)
    archived = one(engine, schema.outbox, contact_id=new)
    assert (archived["operation"], archived["state"], archived["wanted_version"]) == ("archive", "waiting", 2)
    assert archived["claimed_by"] == ("token" if last_verdict is None else None)


def test_the_survivor_takes_over_the_address_of_the_merged_in_the_same_chunk(
    engine: sa.Engine, settings: Settings
) -> None:
    old, new = contact(engine, at=NOW - timedelta(days=1)), contact(engine)
    member(engine, old, phone="+14155552671")
    member(engine, new, email="anna@firm.com")
    refresh_golden_contacts(engine, chunk(), settings=settings)
    merge(engine, new, into=old)
    refresh_golden_contacts(engine, chunk(now=LATER), settings=settings)
    assert one(engine, schema.golden_contacts)["email_key"] == "anna@firm.com"


def test_two_contacts_may_exchange_their_addresses(engine: sa.Engine, settings: Settings) -> None:
    """As after an undone merge: each row's new key is the other's old one."""
    left, right = contact(engine), contact(engine)
    of_left, of_right = member(engine, left, email="a@firm.com"), member(engine, right, email="b@firm.com")
    refresh_golden_contacts(engine, chunk(), settings=settings)
    with engine.begin() as connection:
        for lead_id, contact_id in ((of_left, right), (of_right, left)):
            connection.execute(
                sa.update(schema.deduped_leads)
                .where(schema.deduped_leads.c.lead_id == lead_id)
                .values(contact_id=contact_id, golden_version=None)
            )
    for asked in (left, right):  # one chunk each: the second row still holds what the first wants
        ask_for(engine, asked)
        refresh_golden_contacts(engine, chunk(now=LATER), settings=settings)
    keys = {row["contact_id"]: row["email_key"] for row in rows_of(engine, schema.golden_contacts)}
    assert keys == {left: "b@firm.com", right: "a@firm.com"}


def test_a_contact_that_was_merged_while_it_waited_is_served_as_its_survivor(
    engine: sa.Engine, settings: Settings
) -> None:
    old, new = contact(engine, at=NOW - timedelta(days=1)), contact(engine)
    member(engine, old, email="anna@firm.com")
    member(engine, new, email="anna@other.com")
    merge(engine, new, into=old)
    with engine.begin() as connection:
        connection.execute(sa.delete(schema.pending).where(schema.pending.c.subject_id == old))
    report = refresh_golden_contacts(engine, chunk(), settings=settings)
    assert (report.taken, report.passed) == (1, 1)
    assert one(engine, schema.golden_contacts)["contact_id"] == old
    assert [row["contact_id"] for row in rows_of(engine, schema.outbox)] == [old]


def test_a_contact_without_leads_is_withdrawn_and_a_returning_one_counts_on(
    engine: sa.Engine, settings: Settings
) -> None:
    person, other = contact(engine), contact(engine)
    lead_id = member(engine, person, email="anna@firm.com")
    refresh_golden_contacts(engine, chunk(), settings=settings)
    delivered(engine, person)

    def move(to: Any) -> None:
        with engine.begin() as connection:
            connection.execute(sa.update(schema.deduped_leads).values(contact_id=to, golden_version=None))
        ask_for(engine, person, other)
        refresh_golden_contacts(engine, chunk(now=LATER), settings=settings)

    move(other)
    assert one(engine, schema.golden_contacts)["contact_id"] == other
    assert one(engine, schema.outbox, contact_id=person)["operation"] == "archive"
    move(person)
    row = one(engine, schema.golden_contacts)
    wanted = one(engine, schema.outbox, contact_id=person)
    # 1 was delivered and 2 took it back: were the new row version 1, its lead would count as delivered.
    assert (row["contact_id"], row["version"], wanted["wanted_version"], wanted["operation"]) == (
        person,
        3,
        3,
        "upsert",
    )
    assert one(engine, schema.deduped_leads, lead_id=lead_id)["golden_version"] == 3


def test_a_destination_that_was_added_later_gets_the_contacts_that_are_there(
    engine: sa.Engine, settings: Settings
) -> None:
    person = contact(engine)
    member(engine, person, email="anna@firm.com")
    refresh_golden_contacts(engine, chunk(), settings=settings)
    delivered(engine, person)
    text = LEADS_YAML.replace("destinations: [hubspot]", "destinations: [hubspot, second]", 1) + (
        "  second: {vendor: hubspot, account: other, token: {env: LEADS_HUBSPOT_TOKEN}}\n"
    )
    ask_for(engine, person)
    refresh_golden_contacts(engine, chunk(now=LATER), settings=parse_settings(text, path=settings.path))
    states = {row["destination"]: (row["state"], row["wanted_version"]) for row in rows_of(engine, schema.outbox)}
    assert states == {"hubspot": ("delivered", 1), "second": ("waiting", 1)}


def test_a_source_s_priority_settles_what_came_at_one_instant(engine: sa.Engine, settings: Settings) -> None:
    person = contact(engine)
    member(engine, person, source="import", email="anna@firm.com", company="From a list of old")
    member(engine, person, source="website", email="anna@firm.com", company="Acme")
    refresh_golden_contacts(engine, chunk(), settings=settings)
    row = one(engine, schema.golden_contacts)
    assert (row["company"], row["provenance"]["company"]["rule"]) == ("Acme", "source_priority")


def test_a_tenant_s_own_rules_decide_what_survives(engine: sa.Engine, settings: Settings) -> None:
    text = LEADS_YAML.replace("    country: US", "    country: US\n    survivorship: {company: [oldest]}", 1)
    person = contact(engine)
    first = member(engine, person, email="anna@firm.com", company="Acme")
    member(engine, person, email="anna@firm.com", company="Widget Works", received_at=LATER)
    refresh_golden_contacts(engine, chunk(now=LATER), settings=parse_settings(text, path=settings.path))
    row = one(engine, schema.golden_contacts)
    assert row["company"] == "Acme"
    assert row["provenance"]["company"] == {
        "lead_id": str(first), "received_at": NOW.isoformat(), "rule": "oldest",
    }  # fmt: skip


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("together", [True, False])
def test_the_order_and_the_chunks_in_which_leads_come_make_no_difference(
    engine: sa.Engine, settings: Settings, order: tuple[int, ...], *, together: bool
) -> None:
    leads: list[dict[str, Any]] = [
        {"source": "import", "email": "anna@firm.com", "company": "Acme", "consent": ({"granted": True},)},
        {"email": "sales@firm.com", "full_name": "Anna Smith", "company": "Widget Works"},
        {"received_at": LATER, "phone": "+14155552671", "first_name": "Ann", "consent": ({"granted": False},)},
    ]
    person = contact(engine)
    for number in order:
        member(engine, person, **leads[number])
        if not together:
            refresh_golden_contacts(engine, chunk(), settings=settings)
    refresh_golden_contacts(engine, chunk(), settings=settings)
    row = one(engine, schema.golden_contacts)
    assert row["version"] == (1 if together else 3)
    assert {name: row[name] for name in ("email", "first_name", "last_name", "company", "phone", "lead_count")} == {
        "email": "anna@firm.com", "first_name": "Anna", "last_name": "Smith", "company": "Widget Works",
        "phone": "+14155552671", "lead_count": 3,
    }  # fmt: skip
    assert row["consent"]["marketing"]["email"]["granted"] is False


def test_a_contact_with_very_many_leads_is_one_contact(engine: sa.Engine, settings: Settings) -> None:
    person = contact(engine)
    member(engine, person, email="anna@firm.com")
    with engine.begin() as connection:  # 3,000 more of the same
        for table in ("validated_leads", "deduped_leads"):
            columns = [column.name for column in schema.metadata.tables[table].columns if column.name != "lead_id"]
            names = ", ".join(columns)
            connection.execute(
                sa.text(
                    f"insert into {table} (lead_id, {names}) "
                    "select cast(overlay(cast(lead_id as text) placing lpad(cast(n as text), 12, '0') from 25) as uuid)"
                    f", {names} from {table}, generate_series(1, 3000) n"
                )
            )
    refresh_golden_contacts(engine, chunk(), settings=settings)
    assert one(engine, schema.golden_contacts)["lead_count"] == 3001


def test_a_step_that_is_killed_between_any_two_statements_leaves_everything_as_it_was(
    engine: sa.Engine, database_url: str, settings: Settings
) -> None:
    """Golden rows, outbox rows and the leads' mark are committed together; so is an address that changes hands."""
    old, new, apart = contact(engine, at=NOW - timedelta(days=1)), contact(engine), contact(engine, at=LATER)
    member(engine, old, email="anna@firm.com")
    member(engine, new, email="anna@other.com")
    member(engine, apart, email="anna@other.com")  # awaits it, and gets it with the merge
    refresh_golden_contacts(engine, chunk(), settings=settings)
    delivered(engine, old, crm_record_id="500")
    delivered(engine, new)
    merge(engine, new, into=old)
    member(engine, old, email="anna.smith@firm.com", received_at=LATER)
    before, waiting = everything(engine), rows_of(engine, schema.pending)
    dying = sa.create_engine(database_url, poolclass=sa.NullPool)
    countdown = [0]
    killed_before: list[str] = []

    def perhaps_die(connection: sa.Connection, statement: str) -> None:
        """The server sees what it sees when this process is killed: a transaction without an end."""
        countdown[0] -= 1
        if countdown[0] == 0:
            killed_before.append(" ".join(statement.split()))
            with engine.connect() as other:
                pid = connection.connection.dbapi_connection.info.backend_pid  # type: ignore[union-attr]
                other.execute(sa.text("select pg_terminate_backend(:pid, 60000)"), {"pid": pid})

    @sa.event.listens_for(dying, "before_cursor_execute")
    def _statement(connection: sa.Connection, _cursor: object, statement: str, *_rest: object) -> None:
        perhaps_die(connection, statement)

    @sa.event.listens_for(dying, "commit")
    def _commit(connection: sa.Connection) -> None:
        perhaps_die(connection, "commit")

    while True:
        countdown[0] = len(killed_before) + 1
        try:
            report = refresh_golden_contacts(dying, chunk(now=LATER), settings=settings)
        except sa.exc.OperationalError:
            assert (everything(engine), rows_of(engine, schema.pending)) == (before, waiting), killed_before[-1]
        else:
            break
    dying.dispose()
    for begin in ("insert into golden_contacts", "update golden_contacts", "insert into outbox", "commit"):
        assert any(statement.startswith(begin) for statement in killed_before), (begin, killed_before)
    assert (report.counts["archived"], report.counts["addresses_passed_on"]) == (1, 1)
    wanted = {row["contact_id"]: row["wanted_version"] for row in rows_of(engine, schema.outbox, operation="upsert")}
    assert wanted == {row["contact_id"]: row["version"] for row in rows_of(engine, schema.golden_contacts)}
    assert rows_of(engine, schema.pending) == []


def test_identity_and_the_golden_record_do_not_move_at_once(engine: sa.Engine, settings: Settings) -> None:
    person = contact(engine)
    member(engine, person, email="anna@firm.com")
    done = threading.Event()

    def refresh() -> None:
        refresh_golden_contacts(engine, chunk(), settings=settings)
        done.set()

    worker = threading.Thread(target=refresh)
    with engine.begin() as connection:
        lock_identity(connection, TENANT)
        worker.start()
        waiting = sa.text(
            "select count(*) from pg_stat_activity where wait_event = 'advisory' and datname = current_database()"
        )
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as watcher:
            while watcher.execute(waiting).scalar_one() == 0:
                assert not done.is_set(), "the step did not ask for the lock"
    worker.join(timeout=30)
    assert done.is_set()
    assert one(engine, schema.golden_contacts)["contact_id"] == person
