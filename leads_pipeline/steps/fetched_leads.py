"""From ``lead_fetches`` to the door of ``validated_leads``: leads whose vendor must be asked who they are.

Asked over HTTP, outside of any transaction: claimed with a lease, asked, settled. To ask twice is harmless, so a worker
may die at any point. What a vendor will not say now is asked again for as long as the vendor keeps it; what it has not
any more goes on with that as its reason to be rejected. Nothing is lost either way.
"""

import json
import random as randomness
import threading
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import HubSpotSettings, Settings, SourceSettings
from leads_pipeline.domain.consent import ParsedConsent, parse_consent
from leads_pipeline.domain.consent_mapping import consent_statements
from leads_pipeline.domain.lane_rules import lane_of
from leads_pipeline.domain.posted_lead import storage_fault
from leads_pipeline.domain.retry import RetryPolicy, backoff_ceiling, budgets_of
from leads_pipeline.domain.snapshot import holds
from leads_pipeline.domain.stage import Chunk, ChunkReport, Stage
from leads_pipeline.errors import ConfigError
from leads_pipeline.outbound.gate import Gate
from leads_pipeline.outbound.limiter import Limiter
from leads_pipeline.sources.fetching import (
    CONNECTIONS,
    EXPIRES_AFTER,
    SOURCE_WIDE,
    VENDORS,
    FetchAnswer,
    FetchVerdict,
    LeadFetcher,
)
from leads_pipeline.sources.hubspot import HubSpotEvents, changed_property, is_echo, keys_of
from leads_pipeline.sources.port import Quarantine, kept_raw, with_fetched
from leads_pipeline.sources.registry import KINDS
from leads_pipeline.storage.consent import keep_consent
from leads_pipeline.storage.lead_fetches import (
    ClaimedFetch,
    FetchedLead,
    Postponed,
    claim_fetches,
    pause_source,
    postpone_fetches,
    release_fetches,
    store_fetched,
)
from leads_pipeline.storage.outbox import snapshots_of
from leads_pipeline.storage.pending import Waiting, enqueue
from leads_pipeline.telemetry import get_logger

_log = get_logger(__name__)

HUBSPOT = HubSpotEvents.name

# A person must mend the token first: asked again so often, with one lead.
REFUSED_PAUSE = timedelta(minutes=5)
# A vendor that is down is tried again after this at the latest.
LONGEST_UNREACHABLE_PAUSE = timedelta(minutes=5)
# A lead that is not there, or that our token may not see: in that time somebody can give the token its permission.
ABSENT_PATIENCE = timedelta(days=1)


@dataclass(slots=True)
class _Outcome:
    """What one chunk's answers come to. ``pauses``: source → until when and why."""

    ready: list[FetchedLead] = field(default_factory=list)
    consent: list[tuple[UUID, ParsedConsent]] = field(default_factory=list)
    postponed: list[Postponed] = field(default_factory=list)
    pauses: dict[str, tuple[datetime, FetchVerdict]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


def fetch_leads(
    engine: sa.Engine,
    chunk: Chunk,
    *,
    settings: Settings,
    clock: Clock,
    random: Callable[[], float] = randomness.random,
    budget: timedelta = timedelta(minutes=1),
) -> ChunkReport:
    """Ask for one chunk of one tenant's leads and let those that were answered go on.

    Nobody is asked any more once ``budget`` is spent; the rest of the chunk is due at once. ``passed`` leads are at
    the door of ``validated_leads``; the others of ``taken`` wait to be asked for again.
    """
    with engine.begin() as connection:
        claimed = claim_fetches(connection, chunk)
    if not claimed:
        return ChunkReport(taken=0, passed=0, counts={})
    outcome = _Outcome()
    keys = sorted({item.key_property for item in settings.destinations.values() if isinstance(item, HubSpotSettings)})
    ends = clock.monotonic() + budget.total_seconds()
    for name, leads in groupby(claimed, key=lambda lead: lead.source):
        source = settings.source(chunk.tenant, name)
        asked = list(leads)
        gate = None if source is None else _gate(engine, settings, source, clock=clock, ends=ends)
        answers = _answers(asked, source, gate=gate, clock=clock, ends=ends, also=keys)
        policy = budgets_of(settings.retry.model_dump()).default
        echoes = _echoes(engine, settings, source, asked, answers, tenant=chunk.tenant, keys=keys)
        _judge(
            outcome, asked, answers, source, policy=policy, chunk=chunk, now=clock.now(), random=random, echoes=echoes
        )
    with engine.begin() as connection:
        passed = _settle(connection, outcome, chunk, now=clock.now())
    return ChunkReport(taken=len(claimed), passed=passed, counts=dict(outcome.counts))


def _judge(
    outcome: _Outcome,
    leads: list[ClaimedFetch],
    answers: Mapping[UUID, FetchAnswer],
    source: SourceSettings | None,
    *,
    policy: RetryPolicy,
    chunk: Chunk,
    now: datetime,
    random: Callable[[], float],
    echoes: Container[UUID],
) -> None:
    """What follows from the answers about one source's leads. Without an answer: it was not asked for."""
    for lead in leads:
        answer = answers.get(lead.lead_id)
        if answer is None:  # not asked any more: due as it was, unless its source is paused
            outcome.postponed.append(Postponed(lead.lead_id, chunk.now, lead.attempts, None))
            continue
        verdict = _final(answer.verdict, lead, source, now=now)
        if verdict is FetchVerdict.FETCHED and not _add_fetched(
            outcome, lead, answer, source, now=now, echo=lead.lead_id in echoes
        ):
            verdict = FetchVerdict.FAILED
        outcome.counts[f"fetch_{verdict}"] += 1
        if verdict in (FetchVerdict.GONE, FetchVerdict.EXPIRED):
            context = {**lead.context, **_trace(verdict, lead, now), "quarantine": Quarantine.NOT_FETCHED}
            outcome.ready.append(FetchedLead(lead.lead_id, lead.lane, lead.payload, context))
        elif verdict is not FetchVerdict.FETCHED:
            _postpone(outcome, lead, verdict, answer, now=now, wait=_backoff(lead, policy=policy, random=random))
    if leads[0].source in outcome.pauses:
        until, verdict = outcome.pauses[leads[0].source]
        _log.warning(
            "fetching_paused", tenant=chunk.tenant, source=leads[0].source, verdict=verdict, until=until.isoformat()
        )


def _postpone(
    outcome: _Outcome, lead: ClaimedFetch, verdict: FetchVerdict, answer: FetchAnswer, *, now: datetime, wait: timedelta
) -> None:
    if verdict not in SOURCE_WIDE:
        outcome.postponed.append(Postponed(lead.lead_id, now + wait, lead.attempts + 1, verdict))
        return
    # Only an attempt that may have failed for the lead's own sake makes its next wait longer.
    attempts = lead.attempts + (verdict is FetchVerdict.UNREACHABLE)
    outcome.postponed.append(Postponed(lead.lead_id, now, attempts, verdict))
    pause = (now + _pause(answer, wait), verdict)
    outcome.pauses[lead.source] = max(outcome.pauses.get(lead.source, pause), pause)


def _backoff(lead: ClaimedFetch, *, policy: RetryPolicy, random: Callable[[], float]) -> timedelta:
    return timedelta(seconds=backoff_ceiling(lead.attempts + 1, policy=policy) * (1 + random()) / 2)


def _answers(
    leads: list[ClaimedFetch],
    source: SourceSettings | None,
    *,
    gate: Gate | None,
    clock: Clock,
    ends: float,
    also: Sequence[str],
) -> dict[UUID, FetchAnswer]:
    """Ask for the leads of one source, until its vendor says something that would be said of all of them."""
    vendor = None if source is None else VENDORS.get(source.kind)
    try:
        token = None if source is None or source.access_token is None else source.access_token.resolve()
    except ConfigError:
        token = None
    if source is None or vendor is None or token is None:
        return {leads[0].lead_id: FetchAnswer(FetchVerdict.NOT_CONFIGURED)}
    answers: dict[UUID, FetchAnswer] = {}
    with (
        LeadFetcher(vendor, source, token=token, clock=clock, gate=gate, also=also) as fetcher,
        ThreadPoolExecutor(CONNECTIONS) as pool,
    ):
        for start in range(0, len(leads), CONNECTIONS):
            if clock.monotonic() >= ends:
                break
            group = leads[start : start + CONNECTIONS]
            for lead, answer in zip(group, pool.map(lambda lead: _asked(fetcher, lead), group), strict=True):
                answers[lead.lead_id] = answer
            if any(answer.verdict in SOURCE_WIDE for answer in answers.values()):
                break
    return answers


def _gate(engine: sa.Engine, settings: Settings, source: SourceSettings, *, clock: Clock, ends: float) -> Gate | None:
    """The way out to the account that a destination's contacts go to, if the source's token is that destination's."""
    for destination in settings.destinations.values():
        if destination.vendor == source.kind and destination.secrets().get("token") == source.access_token:
            limiter = Limiter(
                engine, account=destination.account, limits=destination.limits, expires_after=EXPIRES_AFTER
            )
            return Gate(limiter, clock=clock, deadline=ends, stopping=threading.Event())
    return None


def _echoes(
    engine: sa.Engine,
    settings: Settings,
    source: SourceSettings | None,
    leads: Sequence[ClaimedFetch],
    answers: Mapping[UUID, FetchAnswer],
    *,
    tenant: str,
    keys: Sequence[str],
) -> set[UUID]:
    """The events that tell of nothing but our own deliveries: a record that we made, a property that we set.

    A property is an echo while its value is what every destination of the vendor last took of the contact from us. An
    event that overtakes the settlement of its delivery is a lead; what follows from that lead changes nothing there.
    """
    if source is None or source.kind != HUBSPOT:
        return set()
    found: set[UUID] = set()
    changes: dict[UUID, tuple[UUID, str, str]] = {}
    for lead in leads:
        answer = answers.get(lead.lead_id)
        if answer is None or answer.found is None:
            continue
        payload = with_fetched(lead.payload, answer.found)
        if is_echo(payload, keys):
            found.add(lead.lead_id)
            continue
        changed = changed_property(payload)
        for key in keys_of(payload, keys):
            with suppress(ValueError):  # people may write anything there
                if changed is not None:
                    changes[lead.lead_id] = (UUID(key), *changed)
    if not changes:
        return found
    destinations = [name for name, item in settings.destinations.items() if item.vendor == source.kind]
    with engine.connect() as connection:
        contacts = [contact_id for contact_id, _name, _value in changes.values()]
        snapshots = snapshots_of(connection, contacts, tenant=tenant, destinations=destinations)
    for lead_id, (contact_id, name, value) in changes.items():
        known = snapshots.get(contact_id, [])
        is_key = name in keys and value == str(contact_id)
        if known and (is_key or all(holds(snapshot, contact_id, name, value) for snapshot in known)):
            found.add(lead_id)
    return found


def _asked(fetcher: LeadFetcher, lead: ClaimedFetch) -> FetchAnswer:
    try:
        return fetcher.fetch(lead.reference)
    except Exception as error:  # noqa: BLE001 - one lead's odd answer must not hold up the others
        _log.error("fetch_failed", lead_id=str(lead.lead_id), error_type=type(error).__name__)
        return FetchAnswer(FetchVerdict.FAILED)


def _final(verdict: FetchVerdict, lead: ClaimedFetch, source: SourceSettings | None, *, now: datetime) -> FetchVerdict:
    """The verdict, in view of how long the lead has waited."""
    if verdict in (FetchVerdict.FETCHED, FetchVerdict.GONE):
        return verdict
    kept = VENDORS[source.kind].kept if source is not None and source.kind in VENDORS else None
    if kept is not None and now - lead.received_at >= kept:
        return FetchVerdict.EXPIRED
    if verdict is FetchVerdict.ABSENT and now - lead.since >= ABSENT_PATIENCE:
        return FetchVerdict.GONE
    return verdict


def _pause(answer: FetchAnswer, wait: timedelta) -> timedelta:
    if answer.verdict is FetchVerdict.THROTTLED:
        return timedelta(seconds=answer.retry_after or 0.0)
    return REFUSED_PAUSE if answer.verdict is not FetchVerdict.UNREACHABLE else min(wait, LONGEST_UNREACHABLE_PAUSE)


def _trace(verdict: FetchVerdict, lead: ClaimedFetch, now: datetime) -> dict[str, Any]:
    """What the raw lead keeps of it."""
    return {"fetched_at": now.isoformat(), "fetch_verdict": verdict, "fetch_attempts": lead.attempts + 1}


def _add_fetched(
    outcome: _Outcome,
    lead: ClaimedFetch,
    answer: FetchAnswer,
    source: SourceSettings | None,
    *,
    now: datetime,
    echo: bool,
) -> bool:
    """The lead with what its vendor answered; its consent and its lane, which could not be known at the door.

    Says whether the answer could be read.
    """
    if answer.found is None or source is None:
        return False
    context = {**lead.context, **_trace(FetchVerdict.FETCHED, lead, now)}
    if storage_fault(answer.found) is not None:
        kept = kept_raw(json.dumps(answer.found).encode())  # escaped: what PostgreSQL could not store, as ASCII
        context["quarantine"] = Quarantine.UNREADABLE_BODY
        outcome.ready.append(FetchedLead(lead.lead_id, lead.lane, with_fetched(lead.payload, kept.payload), context))
        return True
    payload = with_fetched(lead.payload, answer.found)
    if echo:
        outcome.ready.append(FetchedLead(lead.lead_id, lead.lane, payload, {**context, "quarantine": Quarantine.ECHO}))
        return True
    try:
        fields = KINDS[source.kind].fields(payload)
        known = consent_statements(KINDS[source.kind].fields(lead.payload), source.consent)
        statements = [item for item in consent_statements(fields, source.consent) if item not in known]
        lane = lane_of(fields, source.lane_rules, default=lead.lane)
        parsed = parse_consent(statements, context=lead.context, received_at=lead.received_at)
    except Exception as error:  # noqa: BLE001 - one lead's odd answer must not hold up the others
        _log.error("fetched_lead_unreadable", lead_id=str(lead.lead_id), error_type=type(error).__name__)
        return False
    if statements:
        outcome.consent.append((lead.lead_id, parsed))
    outcome.ready.append(FetchedLead(lead.lead_id, lane, payload, context))
    return True


def _settle(connection: sa.Connection, outcome: _Outcome, chunk: Chunk, *, now: datetime) -> int:
    """One transaction. A lead that another worker has settled meanwhile is left as it is."""
    mine = release_fetches(connection, [lead.lead_id for lead in outcome.ready])
    ready = [lead for lead in outcome.ready if lead.lead_id in mine]
    store_fetched(connection, ready)
    consent = [(lead_id, parsed) for lead_id, parsed in outcome.consent if lead_id in mine]
    outcome.counts["consent_events"] += keep_consent(connection, consent, chunk, after_known=True)[0]
    enqueue(
        connection,
        Stage.VALIDATED_LEADS,
        [Waiting(lead.lead_id, chunk.tenant, lead.lane, revision=1, since=now) for lead in ready],
    )
    postpone_fetches(connection, outcome.postponed)
    for source, (until, verdict) in outcome.pauses.items():
        pause_source(connection, tenant=chunk.tenant, source=source, until=until, verdict=verdict)
    return len(ready)
