"""Contacts whose verdict has expired: the expired rows of ``verdict_cache`` are the queue of what to ask again.

A row says neither whose address it is nor in which lead it stands; its verdicts bear its time, and lead to the contact.
A row is forgotten when it is taken: what is asked again comes back with the answer.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.stage import Lane
from leads_pipeline.domain.verification import LookupKind, Standing, subject_hash

# The golden field that a kind of look-up is about.
FIELD_OF = {LookupKind.MAILBOX: "email", LookupKind.PHONE: "phone"}


@dataclass(frozen=True, slots=True)
class Expired:
    """A verdict that no longer holds."""

    tenant: str
    hash: int
    verified_at: datetime
    standing: Standing


@dataclass(frozen=True, slots=True)
class HeldValue:
    """An address or a number that a golden contact holds, and the lead that it came from."""

    tenant: str
    lead_id: UUID
    revision: int
    lane: Lane
    subject: str = field(repr=False)


_TAKE = sa.text(
    """
    delete from verdict_cache c using (
        select tenant, kind, subject_hash from verdict_cache
        where expires_at <= :now and kind = :kind order by expires_at limit :limit
        for update skip locked
    ) old
    where c.tenant = old.tenant and c.kind = old.kind and c.subject_hash = old.subject_hash
    returning c.tenant, c.subject_hash, c.verified_at, c.verdict
    """
)

_HELD = sa.text(
    """
    with looked_up as materialized (
        select distinct x.lead_id
        from jsonb_to_recordset(cast(:rows as jsonb)) as t(tenant text, verified_at timestamptz)
        join verifications x on x.verified_at = t.verified_at and x.tenant = t.tenant and x.kind = :kind
    )
    select distinct d.tenant, held.lead_id, held.revision, v.capture_lane as lane,
        case :field when 'email' then v.email else v.phone end as subject
    from looked_up
    join deduped_leads d on d.lead_id = looked_up.lead_id
    join golden_contacts g on g.contact_id = d.contact_id
    join deduped_leads held on held.lead_id = cast(g.provenance -> :field ->> 'lead_id' as uuid)
    join validated_leads v on v.lead_id = held.lead_id and v.revision = held.revision
    """
)


def take_expired(connection: sa.Connection, kind: LookupKind, *, now: datetime, limit: int) -> list[Expired]:
    """Forget the verdicts of a kind that expired first, and say which they were."""
    rows = connection.execute(_TAKE, {"kind": kind, "now": now, "limit": limit})
    return [Expired(row.tenant, row.subject_hash, row.verified_at, Standing(row.verdict)) for row in rows]


def values_held(connection: sa.Connection, kind: LookupKind, expired: Collection[Expired]) -> list[HeldValue]:
    """Those of ``expired`` that a golden contact holds today, each once."""
    times = {(item.tenant, item.verified_at) for item in expired}
    rows = json.dumps([{"tenant": tenant, "verified_at": at.isoformat()} for tenant, at in times])
    wanted = {(item.tenant, item.hash) for item in expired}
    found: dict[tuple[str, int], HeldValue] = {}
    for row in connection.execute(_HELD, {"rows": rows, "kind": kind, "field": FIELD_OF[kind]}):
        if row.subject is None:
            continue
        key = (row.tenant, subject_hash(row.tenant, kind, row.subject))
        if key in wanted:
            found.setdefault(key, HeldValue(row.tenant, row.lead_id, row.revision, Lane(row.lane), row.subject))
    return list(found.values())


def lookups_waiting(connection: sa.Connection, kind: LookupKind) -> int:
    """How many look-ups of a kind are asked for already."""
    statement = sa.text("select count(*) from verification_requests where kind = :kind")
    return int(connection.execute(statement, {"kind": kind}).scalar_one())
