"""Leads that wait to be looked up, and providers on this machine to look them up at."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import VerificationSettings
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.stage import Lane, Stage
from leads_pipeline.domain.triage import Triage
from leads_pipeline.domain.validation import ValidLead, validate
from leads_pipeline.domain.verification import LookupKind, WantedLookup, subject_of
from leads_pipeline.steps.verifications import VerificationReport, verify_leads
from leads_pipeline.storage import schema
from leads_pipeline.storage.leads import RawLead, insert_validated_leads
from leads_pipeline.storage.pending import Waiting, enqueue
from leads_pipeline.storage.verification_requests import enqueue_lookups
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.steps.rows import TENANT, chunk, rows_of

KEY_VARIABLE = "LEADS_PROVIDER_KEY"
KEY = "k3y"
TIERS: Mapping[str, Any] = {
    "full": {"lookups": ["mx", "mailbox", "phone"], "patience_seconds": 30},
    "minimal": {"lookups": ["mailbox"], "patience_seconds": 10},
    "none": {},
}


def provider(base_url: str, vendor: str = "zerobounce", **settings: object) -> dict[str, Any]:
    """An account as leads.yaml has it."""
    return {"vendor": vendor, "base_url": base_url, "key": {"env": KEY_VARIABLE}, "timeout_seconds": 5, **settings}


def verification(
    providers: Mapping[str, Mapping[str, Any]], *, phone: Iterable[str] = (), **settings: object
) -> VerificationSettings:
    """``providers`` are asked for mailboxes, in their order, but for those that look up phones."""
    phones = list(phone)
    mailbox = [name for name in providers if name not in phones]
    document = {"providers": providers, "mailbox": mailbox, "phone": phones, "tiers": TIERS, **settings}
    return VerificationSettings.model_validate(document)


def waiting(
    engine: sa.Engine,
    addresses: Iterable[str],
    *,
    tier: str = "full",
    urgency: int = 0,
    tenant: str = TENANT,
    at: datetime = NOW,
    patience: timedelta = timedelta(seconds=30),
    kinds: Iterable[LookupKind] = (LookupKind.MAILBOX,),
) -> list[UUID]:
    """Validated leads at the door of ``deduped_leads`` that wait for these look-ups, as validation leaves them."""
    this = chunk(tenant=tenant, now=at)
    leads: list[tuple[RawLead, ValidLead, Triage]] = []
    requests: list[tuple[WantedLookup, datetime, bool]] = []
    kinds = tuple(kinds)
    for address in addresses:
        payload = {"phone": address} if address.startswith("+") else {"email": address}
        lead = validate(payload, country="US", today=at.date())
        assert isinstance(lead, ValidLead), lead
        raw = RawLead(uuid7(at), 1, "website", Lane.NEAR_REAL_TIME, at, json.dumps(payload))
        leads.append((raw, lead, Triage(tier, 0, 0, ())))
        for kind in kinds:
            subject = subject_of(kind, email=lead.email, email_key=lead.email_key, phone=lead.phone)
            assert subject is not None
            wanted = WantedLookup(raw.lead_id, 1, kind, Lane.NEAR_REAL_TIME, tier, urgency, subject)
            blocked = kind is LookupKind.MAILBOX and LookupKind.MX in kinds
            requests.append((wanted, at + patience, blocked))
    due_at = at + patience if patience else None
    with engine.begin() as connection:
        insert_validated_leads(connection, leads, this)
        enqueue_lookups(connection, requests, this)
        door = [Waiting(raw.lead_id, tenant, raw.capture_lane, 1, at, due_at) for raw, _lead, _triage in leads]
        enqueue(connection, Stage.DEDUPED_LEADS, door)
    return [raw.lead_id for raw, _lead, _triage in leads]


def look_up(
    engine: sa.Engine,
    settings: VerificationSettings,
    clock: FrozenClock,
    *,
    seconds: float = 60,
    runner_id: str = "worker",
) -> VerificationReport:
    """The step for so many seconds of ``clock``."""
    return verify_leads(
        engine,
        settings=settings,
        clock=clock,
        runner_id=runner_id,
        budget_seconds=seconds,
        random=lambda: 0.5,
        simulated=True,
    )


def look_up_until_done(
    engine: sa.Engine, settings: VerificationSettings, clock: FrozenClock, *, hours: float, pause: float = 30
) -> None:
    """The step again and again, as a sensor would start it, until nothing waits."""
    ends = clock.monotonic() + hours * 3600
    while unsettled(engine):
        assert clock.monotonic() < ends, f"{unsettled(engine)} look-ups still wait"
        look_up(engine, settings, clock, seconds=pause)
        clock.advance(pause)


def unsettled(engine: sa.Engine) -> int:
    """How many look-ups wait."""
    with engine.connect() as connection:
        return int(connection.execute(sa.text("select count(*) from verification_requests")).scalar_one())


def verdicts(engine: sa.Engine) -> dict[UUID, tuple[str, tuple[str, ...]]]:
    """The verdict of each lead that has one look-up, with its reasons."""
    return {row["lead_id"]: (row["verdict"], tuple(row["reasons"])) for row in rows_of(engine, schema.verifications)}


def due_times(engine: sa.Engine) -> dict[UUID, datetime]:
    """When each lead at the door of ``deduped_leads`` comes to its turn."""
    return {row["subject_id"]: row["due_at"] for row in rows_of(engine, schema.pending, stage="deduped_leads")}


def books_are_closed(engine: sa.Engine) -> None:
    """No call is under way, and the ledger says what the calls cost."""
    calls = rows_of(engine, schema.verification_calls)
    assert all(call["answered_at"] is not None for call in calls)
    by_provider: dict[str, int] = {}
    for call in calls:
        by_provider[call["provider"]] = by_provider.get(call["provider"], 0) + call["cost_micros"]
    spent: dict[str, int] = {}
    for row in rows_of(engine, schema.verification_spend):
        spent[row["provider"]] = spent.get(row["provider"], 0) + row["cost_micros"]
    assert spent == by_provider
