"""The table ``lead_fetches``: leads whose vendor named them and must still be asked who they are.

Such a lead is in ``raw_leads`` already and waits here instead of at the door of ``validated_leads``. A claim is a
lease: asking takes seconds, and no transaction stays open meanwhile. Whoever dies with an answer in hand has only
asked; when the lease is over the lead is asked for again.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.stage import Chunk, Lane

# Longer than the slowest chunk: every request of it at its time-out.
LEASE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class ClaimedFetch:
    """A lead to ask for. ``attempts``: how often asking for it has failed; ``payload`` is its post."""

    lead_id: UUID
    source: str
    lane: Lane
    reference: str = field(repr=False)
    attempts: int
    since: datetime
    received_at: datetime
    payload: dict[str, Any] = field(repr=False)
    context: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class FetchedLead:
    """A lead that needs no more asking: what its post and its context become, and the lane that its answers earn it."""

    lead_id: UUID
    lane: Lane
    payload: Mapping[str, Any] = field(repr=False)
    context: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Postponed:
    """A lead that is to be asked for again. Without a ``verdict`` it was not asked for this time."""

    lead_id: UUID
    due_at: datetime
    attempts: int
    verdict: str | None


_HOLD = sa.text(
    """
    insert into lead_fetches (lead_id, tenant, source, lane, reference, since, due_at)
    select r.lead_id, r.tenant, r.source, r.capture_lane, r.context ->> 'reference', :now, :now
    from jsonb_array_elements_text(cast(:lead_ids as jsonb)) as t(lead_id)
    join raw_leads r on r.lead_id = cast(t.lead_id as uuid)
    where r.tenant = :tenant and r.context ->> 'reference' is not null
    on conflict (lead_id) do nothing
    """
)

# `skip locked` and the lease in one statement: two workers cannot both claim a lead.
_CLAIM = sa.text(
    """
    with due as materialized (
        select lead_id from lead_fetches
        where tenant = :tenant and lane = any(:lanes) and due_at <= :now
        order by array_position(array['real_time', 'near_real_time', 'batch'], lane), due_at, lead_id
        limit :limit
        for update skip locked
    ), leased as (
        update lead_fetches f set due_at = :lease_ends from due where f.lead_id = due.lead_id
        returning f.lead_id, f.source, f.lane, f.reference, f.attempts, f.since
    )
    select l.lead_id, l.source, l.lane, l.reference, l.attempts, l.since, r.received_at, r.payload, r.context
    from leased l join raw_leads r on r.lead_id = l.lead_id
    order by l.source, l.lead_id
    """
)

# Only who still finds the row settles it: of two that asked for one lead after a lease was over, the first one does.
_RELEASE = sa.text("delete from lead_fetches where lead_id = any(:lead_ids) returning lead_id")

_STORE = sa.text(
    """
    update raw_leads r set payload = t.payload, context = t.context, capture_lane = t.lane
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(lead_id uuid, lane text, payload jsonb, context jsonb)
    where r.lead_id = t.lead_id
    """
)

_POSTPONE = sa.text(
    """
    update lead_fetches f set due_at = t.due_at, attempts = t.attempts,
        last_verdict = coalesce(t.verdict, f.last_verdict)
    from jsonb_to_recordset(cast(:rows as jsonb))
        as t(lead_id uuid, due_at timestamptz, attempts integer, verdict text)
    where f.lead_id = t.lead_id
    """
)

_PAUSE_SOURCE = sa.text(
    """
    update lead_fetches f set due_at = :until, last_verdict = :verdict
    from (
        select lead_id from lead_fetches
        where tenant = :tenant and source = :source and due_at < :until
        order by lead_id
        for update skip locked
    ) as held
    where f.lead_id = held.lead_id
    """
)


def hold_for_fetch(connection: sa.Connection, lead_ids: Sequence[UUID], chunk: Chunk) -> None:
    """Let raw leads whose context names a reference wait for their vendor. Repeating it changes nothing."""
    if lead_ids:
        ids = json.dumps([str(lead_id) for lead_id in lead_ids])
        connection.execute(_HOLD, {"lead_ids": ids, "tenant": chunk.tenant, "now": chunk.now})


def claim_fetches(connection: sa.Connection, chunk: Chunk) -> list[ClaimedFetch]:
    """Lease up to ``chunk.limit`` leads that are due, urgent lanes first; by source. Commit before asking."""
    rows = connection.execute(
        _CLAIM,
        {
            "tenant": chunk.tenant,
            "lanes": [str(lane) for lane in chunk.lanes],
            "now": chunk.now,
            "limit": chunk.limit,
            "lease_ends": chunk.now + LEASE,
        },
    )
    return [
        ClaimedFetch(
            lead_id=r.lead_id,
            source=r.source,
            lane=Lane(r.lane),
            reference=r.reference,
            attempts=r.attempts,
            since=r.since,
            received_at=r.received_at,
            payload=r.payload,
            context=r.context,
        )
        for r in rows
    ]


def release_fetches(connection: sa.Connection, lead_ids: Sequence[UUID]) -> set[UUID]:
    """Take leads out of the waiting room; says which ones were still in it. Only those may be moved on."""
    if not lead_ids:
        return set()
    return set(connection.execute(_RELEASE, {"lead_ids": sorted(lead_ids)}).scalars())


def store_fetched(connection: sa.Connection, leads: Sequence[FetchedLead]) -> None:
    """Write what leads have become into ``raw_leads``."""
    rows = [
        {"lead_id": str(lead.lead_id), "lane": lead.lane, "payload": lead.payload, "context": lead.context}
        for lead in leads
    ]
    if rows:
        connection.execute(_STORE, {"rows": json.dumps(rows)})


def postpone_fetches(connection: sa.Connection, leads: Sequence[Postponed]) -> None:
    """End the leases of leads that must be asked for again."""
    rows = [
        {
            "lead_id": str(lead.lead_id),
            "due_at": lead.due_at.isoformat(),
            "attempts": lead.attempts,
            "verdict": lead.verdict,
        }
        for lead in leads
    ]
    if rows:
        connection.execute(_POSTPONE, {"rows": json.dumps(rows)})


def pause_source(connection: sa.Connection, *, tenant: str, source: str, until: datetime, verdict: str) -> None:
    """Let nothing of a source be due before ``until``; what another worker has in hand is left to it."""
    connection.execute(_PAUSE_SOURCE, {"tenant": tenant, "source": source, "until": until, "verdict": verdict})


def tenants_to_fetch_for(connection: sa.Connection, *, lanes: Sequence[Lane], now: datetime) -> list[str]:
    """The tenants with leads that are due to be asked for, by name."""
    statement = sa.text(
        "select distinct tenant from lead_fetches where lane = any(:lanes) and due_at <= :now order by tenant"
    )
    return list(connection.execute(statement, {"lanes": [str(lane) for lane in lanes], "now": now}).scalars())
