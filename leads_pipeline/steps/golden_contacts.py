"""From ``deduped_leads`` to ``golden_contacts`` and the ``outbox``, in one transaction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.config import Settings, SourceSettings
from leads_pipeline.domain.consent_folding import fold_consent
from leads_pipeline.domain.stage import Chunk, ChunkReport, Lane, Stage
from leads_pipeline.domain.survivorship import survive
from leads_pipeline.storage import golden, outbox_demand
from leads_pipeline.storage.golden import GoldenRow, MemberRow
from leads_pipeline.storage.identity import lock_identity
from leads_pipeline.storage.outbox_demand import Demand
from leads_pipeline.storage.pending import Waiting, claim
from leads_pipeline.telemetry import get_logger

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Refreshed:
    """A contact that lives, what it is now, and how urgently that must be known elsewhere."""

    row: GoldenRow
    lane: Lane
    changed: bool


def refresh_golden_contacts(engine: sa.Engine, chunk: Chunk, *, settings: Settings) -> ChunkReport:
    """Make one chunk of contacts what their leads make them, and want it delivered.

    A contact that is as it was gets no new version and is not sent again. Contacts that were merged away are withdrawn
    first, as the survivor may take over their e-mail address.

    Takes the tenant's identity lock before it claims, as ``deduped_leads`` does: the other way round, that step would
    wait for our claim while we wait for its lock.
    """
    with engine.begin() as connection:
        lock_identity(connection, chunk.tenant)
        claimed = claim(connection, Stage.GOLDEN_CONTACTS, chunk)
        if not claimed:
            return ChunkReport(taken=0, passed=0, counts={})
        return _refresh(connection, chunk, claimed, settings)


def _refresh(connection: sa.Connection, chunk: Chunk, claimed: Sequence[Waiting], settings: Settings) -> ChunkReport:
    tenant = chunk.tenant
    living = golden.living_contacts(connection, tenant=tenant, contact_ids=[item.subject_id for item in claimed])
    merged = golden.merged_away(connection, tenant=tenant, survivors=living)
    versions = outbox_demand.lock_rows(connection, tenant=tenant, contact_ids=[*living, *merged])
    refreshed = _refreshed(connection, chunk, living, versions, settings, _lanes(claimed))
    lanes = {item.row.contact_id: item.lane for item in refreshed}
    emptied = dict.fromkeys(contact_id for contact_id in living if contact_id not in lanes)
    gone = {**emptied, **{other: lanes.get(survivor) for other, survivor in merged.items()}}
    removed = golden.delete_golden(connection, tenant=tenant, contact_ids=list(gone))
    archived, cancelled = outbox_demand.withdraw(connection, gone, tenant=tenant, now=chunk.now)
    changed = [item for item in refreshed if item.changed]
    conflicts = golden.upsert_golden(connection, [item.row for item in changed], chunk)
    if conflicts:
        _log.error("email_shared_by_contacts", contact_ids=[str(item) for item in conflicts], tenant=tenant)
    tenant_settings = settings.tenants.get(tenant)
    destinations = tenant_settings.destinations if tenant_settings else ()
    outbox_demand.demand(connection, _demands(changed, destinations), tenant=tenant, now=chunk.now)
    unchanged = [item for item in refreshed if not item.changed]
    outbox_demand.fill_in(connection, _demands(unchanged, destinations), tenant=tenant, now=chunk.now)
    created = sum(item.row.version == 1 for item in changed)
    counts = {
        "created": created,
        "updated": len(changed) - created,
        "unchanged": len(unchanged),
        "removed": removed,
        "archived": archived,
        "cancelled": cancelled,
        "email_conflicts": len(conflicts),
    }
    return ChunkReport(taken=len(claimed), passed=len(refreshed), counts=counts)


def _refreshed(
    connection: sa.Connection,
    chunk: Chunk,
    living: Sequence[UUID],
    versions: dict[UUID, int],
    settings: Settings,
    lanes: dict[UUID, Lane],
) -> list[_Refreshed]:
    """What each contact is now. One without leads is not in the answer."""
    tenant_settings = settings.tenants.get(chunk.tenant)
    members = golden.read_members(
        connection,
        tenant=chunk.tenant,
        contact_ids=living,
        priorities={name: item.priority for name, item in tenant_settings.sources.items()} if tenant_settings else {},
        default=SourceSettings.model_fields["priority"].default,
    )
    consent = golden.read_consent(connection, tenant=chunk.tenant, contact_ids=living)
    stored = golden.read_golden(connection, tenant=chunk.tenant, contact_ids=living)
    found: list[_Refreshed] = []
    for contact_id in living:
        rows = members.get(contact_id)
        if not rows:
            continue
        record = survive(row.member for row in rows)
        folded = fold_consent(consent.get(contact_id, ()))
        known = stored.get(contact_id)
        # A contact that returns from the dead goes on counting where its outbox rows stopped: a version that was sent
        # once must never mean something else.
        last_version = max(known.version if known else 0, versions.get(contact_id, 0))
        row = GoldenRow(contact_id, last_version + 1, record, folded)
        changed = known is None or row.content() != known.content or not all(item.included for item in rows)
        if known is not None and not changed:
            row = GoldenRow(contact_id, known.version, record, folded)
        found.append(_Refreshed(row, _most_urgent(rows, lanes.get(contact_id, Lane.BATCH)), changed))
    return found


def _most_urgent(rows: Iterable[MemberRow], otherwise: Lane) -> Lane:
    """The lane of the most urgent lead that is new in the contact; without one, that in which the contact waited."""
    return min((row.sync_lane for row in rows if not row.included), key=list(Lane).index, default=otherwise)


def _lanes(claimed: Iterable[Waiting]) -> dict[UUID, Lane]:
    return {item.subject_id: item.lane for item in claimed}


def _demands(refreshed: Iterable[_Refreshed], destinations: Iterable[str]) -> list[Demand]:
    return [
        Demand(item.row.contact_id, destination, item.row.version, item.lane)
        for item in refreshed
        for destination in destinations
    ]
