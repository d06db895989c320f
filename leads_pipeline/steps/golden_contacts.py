"""From ``deduped_leads`` to ``golden_contacts`` and the ``outbox``, in one transaction."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.config import Settings, SourceSettings
from leads_pipeline.domain.consent_folding import fold_consent
from leads_pipeline.domain.latency import Station, seconds_since_capture
from leads_pipeline.domain.shared_addresses import holders, passed_on
from leads_pipeline.domain.stage import Chunk, ChunkReport, Lane, Stage
from leads_pipeline.domain.survivorship import GoldenRecord, Policy, survive
from leads_pipeline.domain.urgency import UrgentRule, sync_lane
from leads_pipeline.storage import golden, outbox_demand
from leads_pipeline.storage.address_holders import pass_on, read_claims, release
from leads_pipeline.storage.golden import GoldenRow, MemberRow, StoredGolden
from leads_pipeline.storage.identity import lock_identity
from leads_pipeline.storage.latency import Measure, Took, measure_latency
from leads_pipeline.storage.outbox_demand import Demand
from leads_pipeline.storage.pending import Waiting, claim


@dataclass(frozen=True, slots=True)
class _Made:
    """What a contact's leads make of it."""

    leads: Sequence[MemberRow]
    record: GoldenRecord
    consent: Mapping[str, object]

    @property
    def wanted_key(self) -> str | None:
        key = self.record.values["email_key"]
        return key if isinstance(key, str) else None


@dataclass(frozen=True, slots=True)
class _Refreshed:
    """A contact that lives, what it is now, and how urgently that must be known elsewhere.

    ``deserved``: by all its leads, as they are known now; ``lane`` is by those that are new in it.
    """

    row: GoldenRow
    lane: Lane
    changed: bool
    deserved: Lane


def refresh_golden_contacts(
    engine: sa.Engine, chunk: Chunk, *, settings: Settings, measure: Measure = measure_latency
) -> ChunkReport:
    """Make one chunk of contacts what their leads make them, and want it delivered.

    A contact that is as it was gets no new version and is not sent again. Contacts that were merged away are withdrawn
    first, as the survivor may take over their e-mail address. Where an address changes hands, the contact that gets or
    loses it is changed and sent too, in the same transaction.

    Takes the tenant's identity lock before it claims, as ``deduped_leads`` does: the other way round, that step would
    wait for our claim while we wait for its lock.
    """
    with engine.begin() as connection:
        lock_identity(connection, chunk.tenant)
        claimed = claim(connection, Stage.GOLDEN_CONTACTS, chunk)
        if not claimed:
            return ChunkReport(taken=0, passed=0, counts={})
        return _refresh(connection, chunk, claimed, settings, measure)


def _refresh(
    connection: sa.Connection, chunk: Chunk, claimed: Sequence[Waiting], settings: Settings, measure: Measure
) -> ChunkReport:
    tenant = chunk.tenant
    living = golden.living_contacts(connection, tenant=tenant, contact_ids=[item.subject_id for item in claimed])
    merged = golden.merged_away(connection, tenant=tenant, survivors=living)
    made = _made(connection, chunk, living, settings)
    asked = [*living, *merged]
    wanted = {contact_id: item.wanted_key for contact_id, item in made.items()}
    keys = {key for key in wanted.values() if key is not None}
    claims = read_claims(connection, tenant=tenant, contact_ids=asked, keys=keys)
    holder_of = holders(wanted, claims)
    passed = passed_on(claims, holder_of)
    # All at once, in one order, also of those whose address comes or goes: deliveries lock the same rows.
    locked = [*asked, *(claim.contact_id for claim in passed)]
    versions = outbox_demand.lock_rows(connection, tenant=tenant, contact_ids=locked)

    stored = golden.read_golden(connection, tenant=tenant, contact_ids=living)
    refreshed = _refreshed(made, stored, versions, holder_of, _lanes(claimed), settings.delivery.urgent)
    lanes = {item.row.contact_id: item.lane for item in refreshed}
    emptied = dict.fromkeys(contact_id for contact_id in living if contact_id not in lanes)
    gone = {**emptied, **{other: lanes.get(survivor) for other, survivor in merged.items()}}
    removed = golden.delete_golden(connection, tenant=tenant, contact_ids=list(gone))
    archived, cancelled = outbox_demand.withdraw(
        connection,
        gone,
        survivors={other: survivor for other, survivor in merged.items() if survivor in lanes},
        hand_on=[name for name, item in settings.destinations.items() if item.hands_records_on],
        tenant=tenant,
        now=chunk.now,
    )

    changed = [item for item in refreshed if item.changed]
    turned = {claim: max(claim.version, versions.get(claim.contact_id, 0)) + 1 for claim in passed}
    release(connection, [*_letting_go(changed, stored), *(c.contact_id for c in passed if c.holds)], tenant=tenant)
    golden.upsert_golden(connection, [item.row for item in changed], chunk)
    pass_on(connection, turned, chunk)

    tenant_settings = settings.tenants.get(tenant)
    destinations = tenant_settings.destinations if tenant_settings else ()
    # Whose address comes or goes is as urgent as the most urgent of those that moved it: until the CRM's record of the
    # one has let it go, the CRM refuses it to the other.
    urgency = min((item.lane for item in claimed), key=list(Lane).index)
    moves = [(claim.contact_id, version, urgency) for claim, version in turned.items()]
    wants = [*((item.row.contact_id, item.row.version, item.lane) for item in changed), *moves]
    outbox_demand.demand(connection, _demands(wants, destinations), tenant=tenant, now=chunk.now)
    unchanged = [(item.row.contact_id, item.row.version, item.lane) for item in refreshed if not item.changed]
    # A verdict that comes late counts while the contact still waits to be sent for the first time.
    outbox_demand.hurry(connection, {c.row.contact_id: c.deserved for c in changed}, tenant=tenant)
    outbox_demand.fill_in(connection, _demands(unchanged, destinations), tenant=tenant, now=chunk.now)
    took = (
        (lead.arriving_in, seconds_since_capture(lead.member.lead_id, chunk.now))
        for item in changed
        for lead in made[item.row.contact_id].leads
        if lead.arriving_in is not None
    )
    measure(connection, Took(tenant, Station.GOLDEN_CONTACTS, took), now=chunk.now)
    created = sum(item.row.version == 1 for item in changed)
    counts = {
        "created": created,
        "updated": len(changed) - created,
        "unchanged": len(unchanged),
        "removed": removed,
        "archived": archived,
        "cancelled": cancelled,
        "awaiting_address": sum(not item.row.holds_email for item in refreshed),
        "addresses_passed_on": len(turned),
    }
    return ChunkReport(taken=len(claimed), passed=len(refreshed), counts=counts)


def _made(connection: sa.Connection, chunk: Chunk, living: Sequence[UUID], settings: Settings) -> dict[UUID, _Made]:
    """What each contact's leads make of it. One without leads is not in the answer."""
    tenant_settings = settings.tenants.get(chunk.tenant)
    members = golden.read_members(
        connection,
        tenant=chunk.tenant,
        contact_ids=living,
        priorities={name: item.priority for name, item in tenant_settings.sources.items()} if tenant_settings else {},
        default=SourceSettings.model_fields["priority"].default,
    )
    consent = golden.read_consent(connection, tenant=chunk.tenant, contact_ids=living)
    policy = Policy(settings.survivorship_rules(chunk.tenant))
    return {
        contact_id: _Made(
            rows, survive([row.member for row in rows], policy), fold_consent(consent.get(contact_id, ()))
        )
        for contact_id in living
        if (rows := members.get(contact_id))
    }


def _refreshed(
    made: Mapping[UUID, _Made],
    stored: Mapping[UUID, StoredGolden],
    versions: Mapping[UUID, int],
    holder_of: Mapping[str, UUID],
    lanes: Mapping[UUID, Lane],
    urgent: Sequence[UrgentRule],
) -> list[_Refreshed]:
    """What each contact is now, and whether that is new."""
    found: list[_Refreshed] = []
    for contact_id, item in made.items():
        key = item.wanted_key
        holds = key is None or holder_of[key] == contact_id
        known = stored.get(contact_id)
        # A contact that returns from the dead goes on counting where its outbox rows stopped: a version that was sent
        # once must never mean something else.
        last_version = max(known.version if known else 0, versions.get(contact_id, 0))
        row = GoldenRow(contact_id, last_version + 1, item.record, item.consent, holds)
        changed = known is None or row.content() != known.content or not all(lead.included for lead in item.leads)
        if known is not None and not changed:
            row = replace(row, version=known.version)
        new = [lead for lead in item.leads if not lead.included]
        lane = _most_urgent(new, lanes.get(contact_id, Lane.BATCH), urgent)
        found.append(_Refreshed(row, lane, changed, _most_urgent(item.leads, lane, urgent)))
    return found


def _letting_go(changed: Iterable[_Refreshed], stored: Mapping[UUID, StoredGolden]) -> list[UUID]:
    """Those that hold an address now and are to hold another one, or none."""
    return [
        item.row.contact_id
        for item in changed
        if (known := stored.get(item.row.contact_id)) is not None
        and (held := known.content["email_key"]) is not None
        and held != (item.row.record.values["email_key"] if item.row.holds_email else None)
    ]


def _most_urgent(rows: Iterable[MemberRow], otherwise: Lane, urgent: Sequence[UrgentRule]) -> Lane:
    """The lane of the most urgent of these leads."""
    lanes = (
        sync_lane(
            row.sync_lane,
            value=row.value,
            risk=row.member.risk_score,
            email_verdict=row.member.email_verdict,
            rules=urgent,
        )
        for row in rows
    )
    return min(lanes, key=list(Lane).index, default=otherwise)


def _lanes(claimed: Iterable[Waiting]) -> dict[UUID, Lane]:
    return {item.subject_id: item.lane for item in claimed}


def _demands(wants: Iterable[tuple[UUID, int, Lane]], destinations: Iterable[str]) -> list[Demand]:
    return [
        Demand(contact_id, destination, version, lane)
        for contact_id, version, lane in wants
        for destination in destinations
    ]
