"""From validated leads to what is to be looked up about them: triage, what is known already, what is still to be asked.

One call per chunk, inside the transaction of validation. A lead that needs no look-up, or whose look-ups are all known,
goes on at once; another is due when its tier's patience ends, or when its last look-up is settled.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.config import MxSettings, VerificationSettings
from leads_pipeline.domain.orders import Orders
from leads_pipeline.domain.stage import Chunk
from leads_pipeline.domain.triage import Circumstances, Triage, fields_asked_for, triage
from leads_pipeline.domain.validation import ValidLead
from leads_pipeline.domain.verification import (
    LookupKind,
    LookupVerdict,
    Standing,
    WantedLookup,
    subject_hash,
    subject_of,
)
from leads_pipeline.storage.leads import RawLead
from leads_pipeline.storage.mx_cache import Remembered, read_mx_cache, write_mx_cache
from leads_pipeline.storage.orders import orders_in_force
from leads_pipeline.storage.velocity import Sighting, count_sightings, sighting
from leads_pipeline.storage.verdicts import BY_DNS, BY_DOOR, KnownVerdict, Stamp, read_cached, write_known
from leads_pipeline.storage.verification_requests import enqueue_lookups
from leads_pipeline.storage.verification_switches import active_switches, tiers_in_force
from leads_pipeline.verification.mx_context import KEY, mx_in_context

# How the door sets aside who filled a field that people do not see; validation sees such a lead only if it is released.
_ROBOT = "robot"

# While a rule lowers a tier one lead of so many is looked up as before: with nobody asked for, a provider's breaker
# would stay open, and nobody would see that the trouble is over.
_PROBED_ONE_IN = 20

Arrival = tuple[RawLead, ValidLead]


@dataclass(slots=True)
class Intake:
    """What became of a chunk's leads, in their order. ``due``: until when a lead waits, if it does."""

    triages: list[Triage] = field(default_factory=list)
    due: dict[UUID, datetime] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


def take_in(
    connection: sa.Connection,
    chunk: Chunk,
    arrivals: Sequence[Arrival],
    *,
    settings: VerificationSettings,
    sent: Callable[[RawLead], Mapping[str, Any]],
) -> Intake:
    """Weigh the leads and ask for their look-ups.

    ``sent`` gives the fields of a lead under its source's names; it is asked only if a rule is about one that is not
    canonical. Writes requests and what was known; the caller writes the leads.
    """
    intake = Intake()
    if not arrivals:
        return intake
    in_force = tiers_in_force(settings.tiers, active_switches(connection, now=chunk.now))
    orders = orders_in_force(connection, now=chunk.now)
    lowered = orders.tiers_lowered(list(settings.tiers), tenant=chunk.tenant)
    foreign = {name for name in fields_asked_for(settings) if name not in ValidLead.__dataclass_fields__}
    velocities = _velocities(connection, chunk, arrivals, window=timedelta(minutes=settings.risk.window_minutes))
    for (raw, lead), (from_ip, of_domain) in zip(arrivals, velocities, strict=True):
        came = Circumstances(
            tenant=chunk.tenant,
            source=raw.source,
            lane=raw.capture_lane,
            sent=sent(raw) if foreign else {},
            filled_honeypot=raw.quarantine == _ROBOT,
            leads_from_ip=from_ip,
            leads_of_domain=of_domain,
        )
        weighed = triage(lead, came, policy=settings)
        tier = in_force[weighed.tier]
        if tier != weighed.tier:
            intake.counts["switched_down"] += 1
        if tier in lowered:
            if raw.lead_id.int % _PROBED_ONE_IN:
                tier = lowered[tier]
                intake.counts["lowered_by_rule"] += 1
            else:
                intake.counts["probes"] += 1
        intake.counts[f"tier_{tier}"] += 1
        intake.triages.append(Triage(tier, weighed.value, weighed.risk, weighed.factors))
    _ask(connection, chunk, arrivals, intake, settings, orders)
    return intake


def _ask(
    connection: sa.Connection,
    chunk: Chunk,
    arrivals: Sequence[Arrival],
    intake: Intake,
    settings: VerificationSettings,
    orders: Orders,
) -> None:
    wanted = [
        wish
        for (raw, lead), weighed in zip(arrivals, intake.triages, strict=True)
        for wish in _wishes(raw, lead, weighed.tier, settings)
    ]
    if not wanted:
        return
    known = _known(connection, chunk, wanted, {raw.lead_id: raw for raw, _lead in arrivals}, settings)
    dead = {
        (wish.lead_id, wish.kind): (verdict, by)
        for wish, (verdict, by) in known.items()
        if wish.kind is LookupKind.MX and verdict.standing is Standing.INVALID
    }
    snapshots: list[KnownVerdict] = []
    requests: list[tuple[WantedLookup, datetime, bool]] = []
    waits_for_mx = {w.lead_id for w in wanted if w.kind is LookupKind.MX and w not in known}
    for wish in wanted:
        found = known.get(wish)
        if found is None and wish.kind is LookupKind.MAILBOX and (wish.lead_id, LookupKind.MX) in dead:
            verdict, _by = dead[wish.lead_id, LookupKind.MX]
            found = (LookupVerdict(Standing.INVALID, verdict.reasons), BY_DNS)
        if found is not None:
            verdict, by = found
            snapshots.append(KnownVerdict(wish.lead_id, wish.revision, wish.kind, wish.tier, verdict, by))
            intake.counts["lookups_known"] += 1
            continue
        patience = timedelta(seconds=settings.tiers[wish.tier].patience_seconds)
        until = chunk.now + patience
        requests.append((wish, until, wish.kind is LookupKind.MAILBOX and wish.lead_id in waits_for_mx))
        intake.counts["lookups_asked"] += 1
        if patience and orders.sheds_enrichment(chunk.tenant, wish.lane):
            # It is asked for all the same, which also shows when somebody answers again; the lead does not wait for it.
            intake.counts["not_waited_for"] += 1
        elif patience:
            intake.due[wish.lead_id] = until
    write_known(connection, chunk.tenant, snapshots, Stamp(chunk.batch_id, chunk.runner_id, chunk.now))
    enqueue_lookups(connection, requests, chunk)


def _wishes(raw: RawLead, lead: ValidLead, tier: str, settings: VerificationSettings) -> list[WantedLookup]:
    urgency = list(settings.tiers).index(tier)
    wishes: list[WantedLookup] = []
    for name in settings.lookups_of(tier):
        kind = LookupKind(name)
        subject = subject_of(kind, email=lead.email, email_key=lead.email_key, phone=lead.phone)
        if subject is not None:
            wishes.append(WantedLookup(raw.lead_id, raw.revision, kind, raw.capture_lane, tier, urgency, subject))
    return wishes


def _known(
    connection: sa.Connection,
    chunk: Chunk,
    wanted: Sequence[WantedLookup],
    raw_of: Mapping[UUID, RawLead],
    settings: VerificationSettings,
) -> dict[WantedLookup, tuple[LookupVerdict, str]]:
    """What the door found out, what DNS said lately, what a provider said lately."""
    domains = {wish.subject for wish in wanted if wish.kind is LookupKind.MX}
    mx = read_mx_cache(connection, domains, now=chunk.now) if domains else {}
    hashes = {wish: subject_hash(chunk.tenant, wish.kind, wish.subject) for wish in wanted}
    paid = {(wish.kind, hashed) for wish, hashed in hashes.items() if wish.kind is not LookupKind.MX}
    cached = read_cached(connection, chunk.tenant, paid, now=chunk.now)
    found: dict[WantedLookup, tuple[LookupVerdict, str]] = {}
    from_the_door: dict[str, Remembered] = {}
    for wish in wanted:
        if wish.kind is not LookupKind.MX:
            if (entry := cached.get((wish.kind, hashes[wish]))) is not None:
                found[wish] = entry
            continue
        said = _said_at_the_door(raw_of[wish.lead_id], wish.subject, settings.mx, now=chunk.now)
        if said is not None:
            found[wish], from_the_door[wish.subject] = (said.verdict, BY_DOOR), said
        elif (verdict := mx.get(wish.subject)) is not None and verdict.standing is not Standing.UNKNOWN:
            found[wish] = (verdict, BY_DNS)
    write_mx_cache(connection, from_the_door, now=chunk.now)
    return found


def _said_at_the_door(raw: RawLead, domain: str, settings: MxSettings, *, now: datetime) -> Remembered | None:
    """What the door of a source that verifies in the request has found out about this domain."""
    if raw.verification is None:
        return None
    return mx_in_context({KEY: json.loads(raw.verification)}, domain, settings=settings, now=now)


def _velocities(
    connection: sa.Connection, chunk: Chunk, arrivals: Sequence[Arrival], *, window: timedelta
) -> list[tuple[int, int]]:
    """For each lead, how many came shortly before it from its address, and with its e-mail domain.

    Rows of files came from nobody's browser, and a lead that is judged again did not come again: neither counts. A
    domain of a free provider is everybody's.
    """
    sightings: list[Sighting] = []
    places: list[tuple[int | None, int | None]] = []
    for raw, lead in arrivals:
        ip_place = domain_place = None
        if not raw.imported and raw.revision == 1:
            if raw.ip is not None:
                ip_place = len(sightings)
                sightings.append(sighting(chunk.tenant, "ip", raw.ip, raw.received_at))
            if lead.email_key is not None and "free_mailbox" not in lead.flags:
                domain_place = len(sightings)
                domain = lead.email_key.rpartition("@")[2]
                sightings.append(sighting(chunk.tenant, "domain", domain, raw.received_at))
        places.append((ip_place, domain_place))
    counts = count_sightings(connection, chunk.tenant, sightings, window=window)
    return [(0 if ip is None else counts[ip], 0 if domain is None else counts[domain]) for ip, domain in places]
