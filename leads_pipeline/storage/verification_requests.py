"""The queue of look-ups: what is wanted, what is claimed, what was settled.

Equal subjects of a tenant are one look-up: a claim takes every request with the subject, and so does its settlement.
Claims of a kind take turns under a lock, so that two workers never ask for one subject; each is a few index look-ups
whatever waits behind. A claim is a lease: it stands in ``due_at``, and who dies leaves its requests due again.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.stage import Chunk
from leads_pipeline.domain.verification import LookupKind, WantedLookup, subject_hash, subject_of

# Half of the key names the lock's purpose; see storage.identity.
_LOCK_PURPOSE = 0x1EAE


@dataclass(frozen=True, slots=True)
class Subject:
    """One look-up to be made, for ``requests`` requests at least. ``text`` is what is looked up.

    ``call_id`` is that of an earlier call that asked for it and was never answered, as far as is known; ``due_since``
    is when its oldest request of ``tier`` was due, unless it was taken for its call's sake.
    """

    tenant: str
    kind: LookupKind
    hash: int
    text: str = field(repr=False)
    tier: str
    urgency: int
    attempts: int
    call_id: UUID | None
    due_since: datetime | None = None
    requests: int = 1


_ENQUEUE = sa.text(
    """
    insert into verification_requests (
        lead_id, revision, kind, tenant, lane, tier, urgency, subject_hash, blocked, requested_at, patience_until,
        due_at, batch_id, runner_id
    )
    select t.lead_id, t.revision, t.kind, :tenant, t.lane, t.tier, t.urgency, t.subject_hash, t.blocked, :now,
        t.patience_until, :now, :batch_id, :runner_id
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(
        lead_id uuid, revision integer, kind text, lane text, tier text, urgency integer, subject_hash bigint,
        blocked boolean, patience_until timestamptz
    )
    order by t.lead_id, t.kind
    on conflict (lead_id, revision, kind) do nothing
    """
)

# Tenant by tenant and tier by tier, by index: what is postponed or claimed is not walked over.
_TENANTS = """tenants as (
        (select min(tenant) as tenant from verification_requests where kind = :kind and not blocked)
        union all
        select (
            select min(r.tenant) from verification_requests r
            where r.kind = :kind and not r.blocked and r.tenant > tenants.tenant
        )
        from tenants where tenants.tenant is not null
    )"""

_CANDIDATES = sa.text(
    f"""
    with recursive {_TENANTS}
    select found.*, row_number() over (partition by found.tenant, found.urgency order by found.due_at) as nth
    from tenants
    cross join unnest(cast(:urgencies as integer[])) as wanted(urgency)
    cross join lateral (
        select r.tenant, r.subject_hash, r.tier, r.urgency, r.due_at
        from verification_requests r
        where r.kind = :kind and not r.blocked and r.tenant = tenants.tenant and r.urgency = wanted.urgency
            and r.due_at <= :now
            and not exists (
                select from verification_requests other
                where other.kind = r.kind and other.tenant = r.tenant and other.subject_hash = r.subject_hash
                    and other.call_id is not null and other.due_at > :now
            )
        order by r.due_at
        limit :limit
    ) found
    order by found.urgency, nth, found.due_at
    """  # noqa: S608 - text of this module
)

_TAKEN = """
    select t.tenant, t.subject_hash, max(t.attempts) as attempts, count(*) as requests,
        (array_agg(t.call_id) filter (where t.call_id is not null))[1] as call_id,
        (array_agg(v.email) filter (where v.email is not null))[1] as email,
        (array_agg(v.email_key) filter (where v.email_key is not null))[1] as email_key,
        (array_agg(v.phone) filter (where v.phone is not null))[1] as phone
    from taken t
    left join validated_leads v on v.lead_id = t.lead_id and v.revision = t.revision
    group by t.tenant, t.subject_hash
"""

# Every request with the subject: one of them may name a call that another worker made, another's lead may be gone.
# In one order, as whoever settles takes them, so that no two wait for each other.
_TAKE = sa.text(
    f"""
    with locked as materialized (
        select r.lead_id, r.revision from verification_requests r
        join jsonb_to_recordset(cast(:rows as jsonb)) as t(tenant text, subject_hash bigint)
            on r.kind = :kind and r.tenant = t.tenant and r.subject_hash = t.subject_hash
        order by r.lead_id, r.revision
        for update of r
    ),
    taken as (
        update verification_requests r
        set due_at = :lease_until, attempts = r.attempts + 1, batch_id = :batch_id, runner_id = :runner_id
        from locked
        where r.lead_id = locked.lead_id and r.revision = locked.revision and r.kind = :kind
        returning r.tenant, r.subject_hash, r.lead_id, r.revision, r.attempts, r.call_id
    )
    {_TAKEN}
    """  # noqa: S608 - text of this module
)

_TAKE_CALL = sa.text(
    f"""
    with taken as (
        update verification_requests r
        set due_at = :lease_until, attempts = r.attempts + 1, batch_id = :batch_id, runner_id = :runner_id
        where r.call_id = :call_id and r.due_at <= :now
        returning r.tenant, r.subject_hash, r.lead_id, r.revision, r.attempts, r.call_id, r.tier, r.urgency
    )
    select found.*, first.tier, first.urgency
    from ({_TAKEN}) found
    cross join lateral (
        select tier, urgency from taken
        where taken.tenant = found.tenant and taken.subject_hash = found.subject_hash
        order by urgency limit 1
    ) first
    """  # noqa: S608 - text of this module
)

_POSTPONE = sa.text(
    """
    update verification_requests r
    set due_at = coalesce(t.due_at, r.requested_at), last_reason = t.reason, call_id = null,
        attempts = case when t.counts then r.attempts else greatest(r.attempts - 1, 0) end
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(
        tenant text, kind text, subject_hash bigint, due_at timestamptz, reason text, counts boolean
    )
    where r.kind = t.kind and r.tenant = t.tenant and r.subject_hash = t.subject_hash and r.batch_id = :batch_id
    """
)

_WAIT_FOR_ANSWER = sa.text(
    """
    update verification_requests r set due_at = :until, attempts = greatest(r.attempts - 1, 0)
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(tenant text, kind text, subject_hash bigint)
    where r.kind = t.kind and r.tenant = t.tenant and r.subject_hash = t.subject_hash and r.batch_id = :batch_id
    """
)

_NAME_CALL = sa.text(
    """
    update verification_requests r set call_id = :call_id, due_at = :lease_until
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(tenant text, kind text, subject_hash bigint)
    where r.kind = t.kind and r.tenant = t.tenant and r.subject_hash = t.subject_hash and r.runner_id = :runner_id
        and r.batch_id = :batch_id
    returning r.tenant, r.subject_hash
    """
)

_ANYTHING_DUE = sa.text(
    f"""
    with recursive {_TENANTS}
    select exists (
        select from tenants
        cross join unnest(cast(:urgencies as integer[])) as wanted(urgency)
        cross join lateral (
            select from verification_requests r
            where r.kind = :kind and not r.blocked and r.tenant = tenants.tenant and r.urgency = wanted.urgency
                and r.due_at <= :now
            order by r.due_at
            limit 1
        ) first
    )
    """  # noqa: S608 - text of this module
)


# What a worker is about to claim or to settle is left to it.
_CALL_BACK = sa.text(
    """
    with called as materialized (
        select lead_id, revision, kind from verification_requests
        where lead_id = any(cast(:ids as uuid[])) and call_id is null
        order by lead_id, revision, kind
        for update skip locked
    )
    delete from verification_requests r using called
    where r.lead_id = called.lead_id and r.revision = called.revision and r.kind = called.kind
    """
)

# Of each kind, what was asked for in a tier that leads.yaml does not have any more.
_ADOPT = sa.text(
    f"""
    with recursive {_TENANTS}
    update verification_requests r set tier = :tier, urgency = :urgency
    from (
        select found.lead_id, found.revision from tenants
        cross join lateral (
            select w.lead_id, w.revision from verification_requests w
            where w.kind = :kind and not w.blocked and w.tenant = tenants.tenant and w.urgency > :urgency
            order by w.urgency
            limit :limit
            for update skip locked
        ) found
    ) orphans
    where r.lead_id = orphans.lead_id and r.revision = orphans.revision and r.kind = :kind
    """  # noqa: S608 - text of this module
)


def enqueue_lookups(
    connection: sa.Connection, wanted: Iterable[tuple[WantedLookup, datetime, bool]], chunk: Chunk
) -> int:
    """Ask for look-ups: each with the end of its lead's patience and whether it waits for the domain's MX first.

    Repeating it changes nothing. Says how many were given.
    """
    rows = [
        {
            "lead_id": str(item.lead_id),
            "revision": item.revision,
            "kind": item.kind,
            "lane": item.lane,
            "tier": item.tier,
            "urgency": item.urgency,
            "subject_hash": subject_hash(chunk.tenant, item.kind, item.subject),
            "blocked": blocked,
            "patience_until": patience_until.isoformat(),
        }
        for item, patience_until, blocked in wanted
    ]
    if rows:
        values = {"tenant": chunk.tenant, "now": chunk.now, "batch_id": chunk.batch_id, "runner_id": chunk.runner_id}
        connection.execute(_ENQUEUE, {"rows": json.dumps(rows), **values})
    return len(rows)


def adopt_orphans(connection: sa.Connection, kind: LookupKind, *, last_tier: str, urgency: int, limit: int) -> int:
    """Take what was asked for in tiers behind the last one into that; up to ``limit`` of each tenant. Says how many."""
    values = {"kind": kind, "tier": last_tier, "urgency": urgency, "limit": limit}
    return connection.execute(_ADOPT, values).rowcount


def claim_subjects(
    connection: sa.Connection,
    kind: LookupKind,
    *,
    limits: Mapping[int, int],
    now: datetime,
    lease: timedelta,
    batch_id: UUID,
    runner_id: str,
) -> list[Subject]:
    """Take subjects: the most urgent tier first, in it the tenants in turn, of each the oldest.

    ``limits``: by a tier's place, how many may have been taken in all when the last of that tier is. Requests of which
    every lead is gone are dropped.
    """
    _take_turns(connection, kind)
    values = {"kind": kind, "urgencies": list(limits), "limit": max(limits.values()), "now": now}
    found: dict[tuple[str, int], Any] = {}
    for row in connection.execute(_CANDIDATES, values):
        if len(found) < limits[row.urgency]:
            found.setdefault((row.tenant, row.subject_hash), row)
    if not found:
        return []
    rows = json.dumps([{"tenant": tenant, "subject_hash": hashed} for tenant, hashed in found])
    values = {"kind": kind, "rows": rows, "lease_until": now + lease, "batch_id": batch_id, "runner_id": runner_id}
    taken = {(row.tenant, row.subject_hash): row for row in connection.execute(_TAKE, values)}
    return _subjects(connection, kind, [(row, taken[key]) for key, row in found.items()])


def claim_answers(
    connection: sa.Connection,
    kind: LookupKind,
    call_id: UUID,
    *,
    now: datetime,
    lease: timedelta,
    batch_id: UUID,
    runner_id: str,
) -> list[Subject]:
    """Take the subjects of a call whose answer may be fetched now; none if another worker was quicker."""
    _take_turns(connection, kind)
    values = {"call_id": call_id, "now": now, "lease_until": now + lease, "batch_id": batch_id, "runner_id": runner_id}
    return _subjects(connection, kind, [(row, row) for row in connection.execute(_TAKE_CALL, values)])


def _take_turns(connection: sa.Connection, kind: LookupKind) -> None:
    connection.execute(
        sa.text("select pg_advisory_xact_lock(cast(:purpose as integer), hashtext(:kind))"),
        {"purpose": _LOCK_PURPOSE, "kind": kind},
    )


def _subjects(connection: sa.Connection, kind: LookupKind, taken: Iterable[tuple[Any, Any]]) -> list[Subject]:
    subjects: list[Subject] = []
    gone: list[tuple[str, LookupKind, int]] = []
    for first, row in taken:
        text = subject_of(kind, email=row.email, email_key=row.email_key, phone=row.phone)
        if text is None:
            gone.append((row.tenant, kind, row.subject_hash))
            continue
        subjects.append(
            Subject(
                tenant=row.tenant,
                kind=kind,
                hash=row.subject_hash,
                text=text,
                tier=first.tier,
                urgency=first.urgency,
                attempts=row.attempts,
                call_id=row.call_id,
                due_since=getattr(first, "due_at", None),
                requests=row.requests,
            )
        )
    drop_requests(connection, gone)
    return subjects


def call_lookups_back(connection: sa.Connection, lead_ids: Iterable[UUID]) -> None:
    """Forget what was asked for about these leads, but for what a call that was made may answer yet."""
    ids = [str(lead_id) for lead_id in lead_ids]
    if ids:
        connection.execute(_CALL_BACK, {"ids": ids})


def drop_requests(connection: sa.Connection, subjects: Iterable[tuple[str, LookupKind, int]]) -> None:
    """Forget requests for which there is nothing to look up any more, and mailboxes that waited for their domains."""
    rows = [{"tenant": tenant, "kind": kind, "subject_hash": hashed} for tenant, kind, hashed in subjects]
    if rows:
        connection.execute(
            sa.text(
                """
                with gone as (
                    delete from verification_requests r
                    using jsonb_to_recordset(cast(:rows as jsonb)) as t(tenant text, kind text, subject_hash bigint)
                    where r.kind = t.kind and r.tenant = t.tenant and r.subject_hash = t.subject_hash
                    returning r.lead_id, r.revision, r.kind
                )
                delete from verification_requests r using gone
                where gone.kind = 'mx' and r.lead_id = gone.lead_id and r.revision = gone.revision and r.blocked
                """
            ),
            {"rows": json.dumps(rows)},
        )


def name_call(
    connection: sa.Connection,
    subjects: Sequence[Subject],
    *,
    call_id: UUID,
    lease_until: datetime,
    batch_id: UUID,
    runner_id: str,
) -> set[tuple[str, int]]:
    """Write down in which call these are asked for, before it is sent; says which are still this claim's to ask for."""
    rows = json.dumps([{"tenant": s.tenant, "kind": s.kind, "subject_hash": s.hash} for s in subjects])
    values = {"call_id": call_id, "lease_until": lease_until, "batch_id": batch_id, "runner_id": runner_id}
    return {(row.tenant, row.subject_hash) for row in connection.execute(_NAME_CALL, {"rows": rows, **values})}


def postpone(
    connection: sa.Connection,
    subjects: Iterable[Subject],
    *,
    batch_id: UUID,
    until: datetime | None,
    reason: str,
    counts: bool = True,
) -> None:
    """Let these be due again at ``until``, as far as they are still the claim's that ``batch_id`` made.

    ``until`` of ``None``: they were not asked for, and keep their places.

    ``counts``: the attempt was theirs, not the account's trouble.
    """
    rows = [
        {
            "tenant": item.tenant,
            "kind": item.kind,
            "subject_hash": item.hash,
            "due_at": None if (due_at := until or item.due_since) is None else due_at.isoformat(),
            "reason": reason,
            "counts": counts,
        }
        for item in subjects
    ]
    if rows:
        connection.execute(_POSTPONE, {"rows": json.dumps(rows), "batch_id": batch_id})


def wait_for_answer(connection: sa.Connection, subjects: Iterable[Subject], *, batch_id: UUID, until: datetime) -> None:
    """Let these be due when their call's answer is asked for again; the call stays named."""
    rows = [{"tenant": item.tenant, "kind": item.kind, "subject_hash": item.hash} for item in subjects]
    if rows:
        connection.execute(_WAIT_FOR_ANSWER, {"rows": json.dumps(rows), "batch_id": batch_id, "until": until})


def kinds_due(
    connection: sa.Connection, kinds: Sequence[LookupKind], *, urgencies: Sequence[int], now: datetime
) -> list[LookupKind]:
    """The kinds of which something is due."""
    return [
        kind
        for kind in kinds
        if connection.execute(_ANYTHING_DUE, {"kind": kind, "urgencies": list(urgencies), "now": now}).scalar_one()
    ]


@dataclass(frozen=True, slots=True)
class WaitingLookups:
    """What waits to be looked up in one tier."""

    kind: LookupKind
    tier: str
    waiting: int
    oldest_since: datetime
    past_patience: int


def waiting_lookups(connection: sa.Connection, *, now: datetime) -> list[WaitingLookups]:
    """Every queue of look-ups that is not empty. Counts rows: for people and checks, not for a sensor."""
    rows = connection.execute(
        sa.text(
            """
            select kind, tier, min(urgency) as urgency, count(*) as waiting, min(requested_at) as oldest,
                count(*) filter (where patience_until < :now) as past_patience
            from verification_requests group by kind, tier order by urgency, tier, kind
            """
        ),
        {"now": now},
    )
    return [WaitingLookups(LookupKind(row.kind), row.tier, row.waiting, row.oldest, row.past_patience) for row in rows]
