"""What validation asks to be looked up, what it knows already, and until when a lead waits; by the real step."""

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
import yaml

from leads_pipeline.config import Settings, parse_settings
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.stage import Stage
from leads_pipeline.domain.verification import LookupKind, LookupVerdict, Standing, subject_hash
from leads_pipeline.steps.validated_leads import validate_leads
from leads_pipeline.storage import schema
from leads_pipeline.storage.database import engine_for
from leads_pipeline.storage.mx_cache import Remembered, write_mx_cache
from leads_pipeline.storage.pending import Waiting, enqueue
from leads_pipeline.storage.verdicts import Stamp, SubjectVerdict, settle
from leads_pipeline.storage.verification_switches import switch_down
from leads_pipeline.verification.mx_context import as_context
from leads_pipeline_tests.conftest import LEADS_YAML, NOW
from leads_pipeline_tests.steps.rows import TENANT, chunk, raw_lead, rows_of
from leads_pipeline_tests.steps.verifying import due_times

PROVIDERS = {
    "zb": {"vendor": "zerobounce", "key": {"env": "LEADS_NO_KEY"}},
    "tw": {"vendor": "twilio", "key": {"env": "LEADS_NO_KEY"}, "account": "AC1"},
}
DEAD = LookupVerdict(Standing.INVALID, ("null_mx",))
ALIVE = LookupVerdict(Standing.VALID, details={"mail_provider": "google"})


def settings_with(**said: Any) -> Settings:
    verification: dict[str, Any] = {
        "mx": {"enabled": True},
        "providers": PROVIDERS,
        "mailbox": ["zb"],
        "phone": ["tw"],
        "value": [{"points": 50, "when": {"present": ["company"]}}],
        "triage": [
            {"tier": "full", "when": {"value_at_least": 50}},
            {"tier": "minimal", "when": {"without_flag": ["disposable_mailbox"]}},
        ],
        **said,
    }
    document = {**yaml.safe_load(LEADS_YAML), "verification": verification}
    return parse_settings(yaml.safe_dump(document), path=Path("leads.yaml"))


@pytest.fixture
def policy() -> Settings:
    return settings_with()


def requests(engine: sa.Engine) -> dict[tuple[UUID, str], bool]:
    """What is asked for, and whether it waits for the domain."""
    return {(row["lead_id"], row["kind"]): row["blocked"] for row in rows_of(engine, schema.verification_requests)}


def snapshots(engine: sa.Engine) -> dict[tuple[UUID, str], tuple[str, str]]:
    return {
        (row["lead_id"], row["kind"]): (row["verdict"], row["provider"])
        for row in rows_of(engine, schema.verifications)
    }


def known(engine: sa.Engine, kind: LookupKind, subject: str, standing: Standing, settings: Settings) -> None:
    """What a provider said, now."""
    with engine.begin() as connection:
        verdict = SubjectVerdict(TENANT, kind, subject_hash(TENANT, kind, subject), LookupVerdict(standing), "zb")
        settle(connection, [verdict], Stamp(uuid7(NOW), "test", NOW), cache=settings.verification.cache)


def dns_said(engine: sa.Engine, domain: str, verdict: LookupVerdict) -> None:
    with engine.begin() as connection:
        write_mx_cache(connection, {domain: Remembered(verdict, NOW + timedelta(hours=1))}, now=NOW)


def test_each_tier_asks_for_its_look_ups_and_waits_as_long_as_it_says(engine: sa.Engine, policy: Settings) -> None:
    full = raw_lead(engine, {"email": "a@firm.com", "company": "Firm", "phone": "+14155552671"})
    no_phone = raw_lead(engine, {"email": "b@firm.com", "company": "Firm"})
    minimal = raw_lead(engine, {"email": "c@firm.com"})
    none = raw_lead(engine, {"email": "d@mailinator.com"})

    report = validate_leads(engine, chunk(), settings=policy)

    assert requests(engine) == {
        (full, "mx"): False, (full, "mailbox"): True, (full, "phone"): False,
        (no_phone, "mx"): False, (no_phone, "mailbox"): True, (minimal, "mx"): False,
    }  # fmt: skip
    assert due_times(engine) == {
        full: NOW + timedelta(seconds=30), no_phone: NOW + timedelta(seconds=30),
        minimal: NOW + timedelta(seconds=10), none: NOW,
    }  # fmt: skip
    assert (report.counts["tier_full"], report.counts["tier_minimal"], report.counts["tier_none"]) == (2, 1, 1)
    assert report.counts["lookups_asked"] == 6
    rows = rows_of(engine, schema.verification_requests)
    assert {(row["tier"], row["urgency"], row["due_at"]) for row in rows} == {("full", 0, NOW), ("minimal", 1, NOW)}
    tiers = {row["lead_id"]: (row["tier"], row["value_score"]) for row in rows_of(engine, schema.validated_leads)}
    assert tiers == {full: ("full", 50), no_phone: ("full", 50), minimal: ("minimal", 0), none: ("none", 0)}


def test_without_anybody_to_ask_no_lead_waits(engine: sa.Engine, settings: Settings) -> None:
    lead = raw_lead(engine, {"email": "a@firm.com", "company": "Firm"})
    validate_leads(engine, chunk(), settings=settings)
    assert requests(engine) == {}
    assert due_times(engine) == {lead: NOW}


def test_a_tier_without_patience_holds_nobody_up(engine: sa.Engine) -> None:
    settings = settings_with(tiers={"full": {"lookups": ["mailbox"], "patience_seconds": 0}, "minimal": {}})
    lead = raw_lead(engine, {"email": "a@firm.com", "company": "Firm"})
    validate_leads(engine, chunk(), settings=settings)
    assert requests(engine) == {(lead, "mailbox"): False}
    assert due_times(engine) == {lead: NOW}


def test_what_is_known_is_not_asked_for_and_a_lead_of_which_all_is_known_goes_on(
    engine: sa.Engine, policy: Settings
) -> None:
    known(engine, LookupKind.MAILBOX, "a@firm.com", Standing.RISKY, policy)
    known(engine, LookupKind.PHONE, "+14155552671", Standing.VALID, policy)
    dns_said(engine, "firm.com", ALIVE)
    all_known = raw_lead(engine, {"email": "A@Firm.com", "company": "Firm", "phone": "+14155552671"})
    half = raw_lead(engine, {"email": "b@firm.com", "company": "Firm"})

    report = validate_leads(engine, chunk(), settings=policy)

    assert requests(engine) == {(half, "mailbox"): False}  # the domain is alive: nothing to wait for
    assert snapshots(engine) == {
        (all_known, "mx"): ("valid", "dns"), (all_known, "mailbox"): ("risky", "zb"),
        (all_known, "phone"): ("valid", "zb"), (half, "mx"): ("valid", "dns"),
    }  # fmt: skip
    assert {row["cost_micros"] for row in rows_of(engine, schema.verifications)} == {0}
    assert due_times(engine) == {all_known: NOW, half: NOW + timedelta(seconds=30)}
    assert (report.counts["lookups_known"], report.counts["lookups_asked"]) == (4, 1)


def test_a_verdict_that_has_expired_or_is_another_tenants_is_not_known(engine: sa.Engine, policy: Settings) -> None:
    known(engine, LookupKind.MAILBOX, "a@firm.com", Standing.UNKNOWN, policy)
    later = NOW + timedelta(days=1)
    lead = raw_lead(engine, {"email": "a@firm.com", "company": "Firm"}, received_at=later)
    validate_leads(engine, chunk(now=later), settings=policy)
    assert (lead, "mailbox") in requests(engine)
    known(engine, LookupKind.MAILBOX, "a@firm.com", Standing.VALID, policy)
    other = raw_lead(engine, {"email": "a@firm.com", "company": "Firm"}, tenant="globex")
    validate_leads(engine, chunk(tenant="globex"), settings=policy)
    assert (other, "mailbox") in requests(engine)


def test_a_domain_known_to_be_dead_spares_its_mailbox(engine: sa.Engine, policy: Settings) -> None:
    dns_said(engine, "dead.com", DEAD)
    lead = raw_lead(engine, {"email": "a@dead.com", "company": "Firm"})
    validate_leads(engine, chunk(), settings=policy)
    assert requests(engine) == {}
    assert snapshots(engine) == {(lead, "mx"): ("invalid", "dns"), (lead, "mailbox"): ("invalid", "dns")}
    assert due_times(engine) == {lead: NOW}


def test_what_the_door_found_out_is_used(engine: sa.Engine, policy: Settings) -> None:
    said = as_context("dead.com", DEAD, checked_at=NOW)
    lead = raw_lead(engine, {"email": "a@dead.com", "company": "Firm"}, context=said)
    other = raw_lead(engine, {"email": "b@elsewhere.com"}, context=said)  # an operator gave it another address
    validate_leads(engine, chunk(), settings=policy)
    assert snapshots(engine) == {(lead, "mx"): ("invalid", "door"), (lead, "mailbox"): ("invalid", "dns")}
    assert requests(engine) == {(other, "mx"): False}


def test_a_tier_that_is_switched_down_is_treated_as_the_lower_one(engine: sa.Engine, policy: Settings) -> None:
    with engine.begin() as connection:
        switch_down(
            connection, "full", down_to="minimal", tiers=policy.verification.tiers, actor="ops", reason="outage",
            until=None, now=NOW,
        )  # fmt: skip
    lead = raw_lead(engine, {"email": "a@firm.com", "company": "Firm"})
    report = validate_leads(engine, chunk(), settings=policy)
    assert requests(engine) == {(lead, "mx"): False}
    assert (report.counts["switched_down"], report.counts["tier_minimal"]) == (1, 1)
    (row,) = rows_of(engine, schema.validated_leads)
    assert (row["tier"], row["value_score"]) == ("minimal", 50)


def factors(engine: sa.Engine) -> dict[UUID, list[str]]:
    return {
        row["lead_id"]: [factor["factor"] for factor in row["risk_factors"]]
        for row in rows_of(engine, schema.validated_leads)
    }


def came_from(
    engine: sa.Engine, name: str, domain: str, ip: str | None = None, *, seconds: int = 0, row: int | None = None
) -> UUID:
    context: Mapping[str, object] = {"ip": ip} if ip else {}
    if row is not None:
        context = {**context, "row": row}
    at = NOW + timedelta(seconds=seconds)
    return raw_lead(engine, {"email": f"{name}@{domain}"}, context=context, received_at=at)


def test_many_leads_from_one_address_or_with_one_domain_are_a_risk(engine: sa.Engine) -> None:
    settings = settings_with(risk={"max_leads_per_ip": 3, "max_leads_per_domain": 4, "window_minutes": 60})
    by_ip = [came_from(engine, f"a{n}", f"d{n}.com", "203.0.113.5", seconds=n) for n in range(5)]
    validate_leads(engine, chunk(now=NOW + timedelta(seconds=60)), settings=settings)
    assert [factors(engine)[lead] for lead in by_ip] == [[], [], [], ["velocity_ip"], ["velocity_ip"]]
    # In the next chunk as well, until the window has passed.
    late = came_from(engine, "late", "e.com", "203.0.113.5", seconds=1800)
    past = came_from(engine, "past", "e.com", "203.0.113.5", seconds=3 * 3600)
    by_domain = [came_from(engine, f"b{n}", "one.com") for n in range(5)]
    free = [came_from(engine, f"c{n}", "gmail.com") for n in range(5)]
    rows = [came_from(engine, f"f{n}", "file.com", "203.0.113.9", row=n) for n in range(6)]
    validate_leads(engine, chunk(now=NOW + timedelta(hours=4)), settings=settings)
    found = factors(engine)
    assert (found[late], found[past]) == (["velocity_ip"], [])
    assert sorted(found[lead] for lead in by_domain) == [[], [], [], [], ["velocity_domain"]]
    assert {tuple(found[lead]) for lead in [*free, *rows]} == {()}


def test_a_corrected_lead_did_not_come_again(engine: sa.Engine) -> None:
    settings = settings_with(risk={"max_leads_per_ip": 1})
    lead = came_from(engine, "a", "firm.com", "203.0.113.5")
    validate_leads(engine, chunk(), settings=settings)
    for revision in (2, 3):
        with engine.begin() as connection:
            enqueue(
                connection,
                Stage.VALIDATED_LEADS,
                [Waiting(lead, TENANT, chunk().lanes[0], revision, NOW)],
            )
        validate_leads(engine, chunk(), settings=settings)
    rows = rows_of(engine, schema.validated_leads)
    assert [(row["revision"], row["risk_factors"]) for row in rows] == [(1, []), (2, []), (3, [])]


def test_two_chunks_at_once_count_each_other_and_do_not_wait_for_each_other_for_ever(
    engine: sa.Engine, database_url: str
) -> None:
    settings = settings_with(risk={"max_leads_per_ip": 1_000, "max_leads_per_domain": 1_000})
    ips = [f"203.0.113.{n}" for n in range(20)]
    for number in range(200):
        came_from(engine, f"p{number}", f"d{number % 7}.com", ips[number * 13 % 20])
    ready = threading.Barrier(2)
    many = engine_for(database_url)

    def work(_worker: int) -> int:
        ready.wait(timeout=30)
        taken = 0
        while report := validate_leads(many, chunk(limit=20), settings=settings):
            if not report.taken:
                return taken
            taken += report.taken
        raise AssertionError

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(work, range(2))) == 200
    many.dispose()
    with engine.connect() as connection:
        counted = connection.execute(sa.text("select kind, sum(leads) from velocity_counts group by kind")).all()
    assert {row[0]: row[1] for row in counted} == {"ip": 200, "domain": 200}
    assert len(requests(engine)) == 200
