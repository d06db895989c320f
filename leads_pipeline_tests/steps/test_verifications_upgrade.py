"""A lead that has gone on unverified, and what its verdict changes later: the contact, the outbox, the CRM."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import HUBSPOT_MAPPING, VerificationSettings
from leads_pipeline.crm.sandbox.hubspot.options import HubSpotOptions
from leads_pipeline.crm.sandbox.running import running_sandbox
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.stage import Lane, OutboxState, Stage
from leads_pipeline.domain.verification import LookupKind, LookupVerdict, Standing, WantedLookup, subject_hash
from leads_pipeline.matching.scoring import PairScorer
from leads_pipeline.steps.deduped_leads import dedupe_leads
from leads_pipeline.steps.golden_contacts import refresh_golden_contacts
from leads_pipeline.storage import schema
from leads_pipeline.storage.database import engine_for
from leads_pipeline.storage.pending import claim
from leads_pipeline.storage.unserved_lookups import give_up, skip
from leads_pipeline.storage.verdicts import Stamp, SubjectVerdict, settle
from leads_pipeline.storage.verification_requests import enqueue_lookups
from leads_pipeline.storage.verification_switches import switch_down
from leads_pipeline.verification.sandbox.running import ProviderSandbox
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.crm.delivering import settings_for, sync
from leads_pipeline_tests.steps.rows import TENANT, chunk, contact, member, rows_of
from leads_pipeline_tests.steps.verifying import (
    due_times,
    look_up,
    provider,
    unsettled,
    verdicts,
    verification,
    waiting,
)

PATIENCE = timedelta(seconds=31)


@pytest.fixture(scope="module")
def scorer() -> PairScorer:
    return PairScorer.load()


@pytest.fixture
def usual(zerobounce: ProviderSandbox) -> VerificationSettings:
    return verification({"zb": provider(zerobounce.base_url)})


def test_a_late_verdict_changes_the_contact_and_reaches_the_crm(
    engine: sa.Engine, usual: VerificationSettings, clock: FrozenClock, scorer: PairScorer
) -> None:
    def contact_at_the_crm() -> dict[str, Any]:
        sync(engine, settings, clock)
        (found,) = sandbox.contacts()
        properties: dict[str, Any] = found["properties"]
        return properties

    with running_sandbox(HubSpotOptions(custom_properties=("email_verdict",)), clock=clock) as sandbox:
        settings = settings_for(sandbox.base_url)
        hubspot = settings.destinations["hubspot"].model_copy(
            update={"mapping": {**HUBSPOT_MAPPING, "email_verdict": "email_verdict"}}
        )
        settings = settings.model_copy(update={"destinations": {"hubspot": hubspot}})
        waiting(engine, ["invalid@firm.example"])
        assert dedupe_leads(engine, chunk(), settings=settings, scorer=scorer).taken == 0  # it waits for its verdict
        clock.advance(PATIENCE.total_seconds())
        assert dedupe_leads(engine, chunk(now=clock.now()), settings=settings, scorer=scorer).passed == 1
        refresh_golden_contacts(engine, chunk(now=clock.now()), settings=settings)
        assert contact_at_the_crm()["email_verdict"] == "unverified"
        (row,) = rows_of(engine, schema.golden_contacts)
        assert (row["version"], row["email_verdict"]) == (1, "unverified")

        clock.advance(60)
        report = look_up(engine, usual, clock)
        assert (report.released, report.upgraded) == (0, 1)
        assert refresh_golden_contacts(engine, chunk(now=clock.now()), settings=settings).counts["updated"] == 1
        (row,) = rows_of(engine, schema.golden_contacts)
        assert (row["version"], row["email_verdict"]) == (2, "invalid")
        (wanted,) = rows_of(engine, schema.outbox)
        assert (wanted["wanted_version"], wanted["state"]) == (2, OutboxState.WAITING)
        assert contact_at_the_crm()["email_verdict"] == "invalid"
        (wanted,) = rows_of(engine, schema.outbox)
        assert (wanted["delivered_version"], wanted["state"]) == (2, OutboxState.DELIVERED)


def test_a_lead_that_is_verified_in_time_makes_one_version(
    engine: sa.Engine, usual: VerificationSettings, clock: FrozenClock, scorer: PairScorer
) -> None:
    settings = settings_for("http://127.0.0.1:9")
    waiting(engine, ["valid@firm.example"])
    look_up(engine, usual, clock)
    dedupe_leads(engine, chunk(), settings=settings, scorer=scorer)
    refresh_golden_contacts(engine, chunk(), settings=settings)
    (row,) = rows_of(engine, schema.golden_contacts)
    assert (row["version"], row["email_verdict"]) == (1, "valid")
    assert rows_of(engine, schema.pending) == []


def said(engine: sa.Engine, email: str, standing: Standing, at: datetime) -> None:
    """A verdict about a mailbox for which somebody waits."""
    subject = subject_hash(TENANT, LookupKind.MAILBOX, email)
    found = SubjectVerdict(TENANT, LookupKind.MAILBOX, subject, LookupVerdict(standing), "zb")
    with engine.begin() as connection:
        cache = verification({}).cache
        assert settle(connection, [found], Stamp(uuid7(at), "test", at), cache=cache).verdicts == 1


def wants(engine: sa.Engine, lead_id: UUID, email: str, at: datetime) -> None:
    """A further look-up of a lead, as re-verification asks for it."""
    wanted = WantedLookup(lead_id, 1, LookupKind.MAILBOX, Lane.NEAR_REAL_TIME, "full", 0, email)
    with engine.begin() as connection:
        enqueue_lookups(connection, [(wanted, at, False)], chunk(now=at))


def test_a_verdict_waits_for_a_lead_that_is_passing_the_door_just_now(
    engine: sa.Engine, database_url: str, usual: VerificationSettings, clock: FrozenClock
) -> None:
    """Its patience has ended, and its contact is not there yet: the verdict must reach it all the same."""
    (lead,) = waiting(engine, ["valid@firm.example"])
    person = contact(engine)
    clock.advance(PATIENCE.total_seconds())
    other = engine_for(database_url)
    with ThreadPoolExecutor(1) as pool, other.begin() as passing:
        assert len(claim(passing, Stage.DEDUPED_LEADS, chunk(now=clock.now()))) == 1
        late = pool.submit(look_up, engine, usual, clock, seconds=1)
        with pytest.raises(TimeoutError):
            late.result(timeout=0.5)
        passing.execute(
            sa.insert(schema.deduped_leads).values(
                lead_id=lead, revision=1, tenant=TENANT, sync_lane=Lane.BATCH, contact_id=person, decision="rule",
                batch_id=uuid7(NOW), runner_id="test", deduped_at=NOW,
            )
        )  # fmt: skip
        passing.commit()
        assert late.result(timeout=30).upgraded == 1
    other.dispose()
    (waits,) = rows_of(engine, schema.pending, stage="golden_contacts")
    assert waits["subject_id"] == person


def test_that_nobody_could_tell_later_does_not_take_back_what_was_told(engine: sa.Engine) -> None:
    settings = settings_for("http://127.0.0.1:9")
    person = contact(engine)
    lead = member(engine, person, email="anna@firm.com")
    found = []
    for day, standing in enumerate((Standing.VALID, Standing.UNKNOWN, Standing.RISKY)):
        at = NOW + timedelta(days=day)
        wants(engine, lead, "anna@firm.com", at)
        said(engine, "anna@firm.com", standing, at)
        refresh_golden_contacts(engine, chunk(now=at), settings=settings)
        (row,) = rows_of(engine, schema.golden_contacts)
        found.append((row["email_verdict"], row["version"]))
    assert found == [("valid", 1), ("valid", 1), ("risky", 2)]
    assert len(rows_of(engine, schema.verifications)) == 3  # each is a snapshot


def test_an_address_that_takes_no_mail_gives_way_to_another(engine: sa.Engine) -> None:
    settings = settings_for("http://127.0.0.1:9")
    person = contact(engine)
    member(engine, person, email="old@firm.com")
    newer = member(engine, person, email="new@firm.com", received_at=NOW + timedelta(hours=1))
    refresh_golden_contacts(engine, chunk(now=NOW), settings=settings)
    (row,) = rows_of(engine, schema.golden_contacts)
    assert row["email"] == "new@firm.com"
    wants(engine, newer, "new@firm.com", NOW)
    said(engine, "new@firm.com", Standing.INVALID, NOW)
    refresh_golden_contacts(engine, chunk(now=NOW), settings=settings)
    (row,) = rows_of(engine, schema.golden_contacts)
    assert (row["email"], row["email_verdict"]) == ("old@firm.com", "unverified")


def test_look_ups_of_a_tier_that_is_switched_down_are_let_go_with_their_leads(
    engine: sa.Engine, clock: FrozenClock, zerobounce: ProviderSandbox
) -> None:
    settings = verification({"zb": provider(zerobounce.base_url)}, tiers={
        "full": {"lookups": ["mailbox"], "patience_seconds": 300},
        "minimal": {"lookups": ["mailbox"], "patience_seconds": 300}, "none": {},
    })  # fmt: skip
    dropped = waiting(engine, ["valid@a.example", "invalid@a.example"])
    kept = waiting(engine, ["catch-all@a.example"], tier="minimal", urgency=1)
    with engine.begin() as connection:
        switch_down(
            connection, "full", down_to="none", tiers=settings.tiers, actor="ops", reason="cost", until=None, now=NOW
        )
    report = look_up(engine, settings, clock)
    assert report.counts["skipped"] == 2
    assert verdicts(engine) == {
        **dict.fromkeys(dropped, ("unknown", ("switched_down",))), kept[0]: ("risky", ("accepts_all",)),
    }  # fmt: skip
    assert set(zerobounce.lookups()) == {"catch-all@a.example"}
    assert set(due_times(engine).values()) == {NOW}
    assert {row["verdict"] for row in rows_of(engine, schema.verdict_cache)} == {"risky"}  # not looking is not knowing


def test_what_is_under_way_is_not_let_go_and_a_mailbox_does_not_wait_for_a_domain_that_is(engine: sa.Engine) -> None:
    (lead,) = waiting(engine, ["valid@a.example"], kinds=(LookupKind.MX, LookupKind.MAILBOX))
    (asked,) = waiting(engine, ["valid@b.example"])
    with engine.begin() as connection:
        connection.execute(
            sa.update(schema.verification_requests)
            .where(schema.verification_requests.c.lead_id == asked)
            .values(call_id=uuid7(NOW), due_at=NOW + timedelta(minutes=1))
        )
        stamp = Stamp(uuid7(NOW), "test", NOW)
        assert skip(connection, "full", ["mx", "phone"], limit=10, stamp=stamp).released == 0
    rows = rows_of(engine, schema.verification_requests)
    assert {(row["lead_id"], row["kind"], row["blocked"]) for row in rows} == {
        (lead, "mailbox", False), (asked, "mailbox", False),
    }  # fmt: skip
    with engine.begin() as connection:
        assert skip(connection, "full", ["mailbox"], limit=10, stamp=stamp).released == 1
    assert unsettled(engine) == 1


def test_a_look_up_for_which_nobody_could_be_asked_for_days_is_let_go(engine: sa.Engine) -> None:
    (old,) = waiting(engine, ["valid@a.example"])
    (asked,) = waiting(engine, ["valid@b.example"])
    waiting(engine, ["valid@c.example"], at=NOW + timedelta(hours=1))
    with engine.begin() as connection:
        connection.execute(
            sa.update(schema.verification_requests)
            .where(schema.verification_requests.c.lead_id == asked)
            .values(call_id=uuid7(NOW), due_at=NOW + timedelta(hours=100))
        )
        stamp = Stamp(uuid7(NOW), "upkeep", NOW + timedelta(hours=72))
        let_go = give_up(connection, requested_before=NOW + timedelta(minutes=1), limit=10, stamp=stamp)
    assert let_go.verdicts == 1, "what is under way is let finish, what is younger waits"
    assert verdicts(engine) == {old: ("unknown", ("waited_too_long",))}
    assert unsettled(engine) == 2
