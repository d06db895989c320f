"""What look-ups found: snapshots per lead, the cache by subject, and what follows for the leads that waited.

A verdict is written for every lead that waited for its subject, in the transaction that ends their waiting: a lead
whose last look-up is settled becomes due at the door of ``deduped_leads``; one that has gone on unverified puts its
contact at the door of ``golden_contacts``.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.config import VerdictCacheSettings
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.stage import Lane, Stage
from leads_pipeline.domain.verification import LookupKind, LookupVerdict, Standing
from leads_pipeline.storage.pending import Waiting, enqueue

# Who said so where no provider did.
BY_DNS, BY_DOOR, SKIPPED = "dns", "door", "skipped"

# Deleted in one statement, so that a clean-up of millions holds no lock for long.
PRUNED_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Stamp:
    """Who writes, and when."""

    batch_id: UUID
    runner_id: str
    now: datetime


@dataclass(frozen=True, slots=True)
class SubjectVerdict:
    """What was found about one subject. ``cost_micros`` is borne by the first lead that waited for it.

    ``remembered``: it was known already, and holds no longer for being told once more.
    """

    tenant: str
    kind: LookupKind
    hash: int
    verdict: LookupVerdict
    provider: str
    cost_micros: int = 0
    call_id: UUID | None = None
    remembered: bool = False


@dataclass(frozen=True, slots=True)
class KnownVerdict:
    """What was known of a lead's subject before anybody was asked, at validation."""

    lead_id: UUID
    revision: int
    kind: LookupKind
    tier: str
    verdict: LookupVerdict
    provider: str


@dataclass(frozen=True, slots=True)
class Settled:
    """How many leads got a verdict, how many of them were let go on, how many contacts are to be refreshed."""

    verdicts: int = 0
    released: int = 0
    upgraded: int = 0


_VERDICT_TYPES = (
    "tenant text, kind text, subject_hash bigint, provider text, verdict text, reasons jsonb, flags jsonb, "
    "details jsonb"
)

# In one order, as whoever claims takes them: no two wait for each other.
_SETTLE = sa.text(
    """
    with locked as materialized (
        select r.lead_id, r.revision, r.kind from verification_requests r
        join jsonb_to_recordset(cast(:rows as jsonb)) as t(tenant text, kind text, subject_hash bigint)
            on r.kind = t.kind and r.tenant = t.tenant and r.subject_hash = t.subject_hash
        order by r.lead_id, r.revision, r.kind
        for update of r
    )
    delete from verification_requests r using locked
    where r.lead_id = locked.lead_id and r.revision = locked.revision and r.kind = locked.kind
    returning r.tenant, r.lead_id, r.revision, r.kind, r.tier, r.lane, r.subject_hash, r.requested_at
    """
)

_SNAPSHOTS = sa.text(
    """
    insert into verifications (
        verification_id, tenant, lead_id, revision, kind, tier, provider, verdict, reasons, flags, details, cost_micros,
        call_id, requested_at, verified_at, batch_id, runner_id
    )
    select t.verification_id, t.tenant, t.lead_id, t.revision, t.kind, t.tier, t.provider, t.verdict, t.reasons,
        t.flags, t.details, t.cost_micros, t.call_id, t.requested_at, :now, :batch_id, :runner_id
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(
        verification_id uuid, tenant text, lead_id uuid, revision integer, kind text, tier text, provider text,
        verdict text, reasons jsonb, flags jsonb, details jsonb, cost_micros integer, call_id uuid,
        requested_at timestamptz
    )
    """
)

_CACHE = sa.text(
    f"""
    insert into verdict_cache as c (
        tenant, kind, subject_hash, provider, verdict, reasons, flags, details, verified_at, expires_at
    )
    select t.tenant, t.kind, t.subject_hash, t.provider, t.verdict, t.reasons, t.flags, t.details, :now, t.expires_at
    from jsonb_to_recordset(cast(:rows as jsonb)) as t({_VERDICT_TYPES}, expires_at timestamptz)
    order by t.tenant, t.kind, t.subject_hash
    on conflict (tenant, kind, subject_hash) do update set
        provider = excluded.provider, verdict = excluded.verdict, reasons = excluded.reasons, flags = excluded.flags,
        details = excluded.details, verified_at = excluded.verified_at, expires_at = excluded.expires_at
    """  # noqa: S608 - types of this module
)

_PRUNE_CACHE = sa.text(
    """
    delete from verdict_cache c using (
        select tenant, kind, subject_hash from verdict_cache where expires_at < :before order by expires_at
        limit :limit for update skip locked
    ) old
    where c.tenant = old.tenant and c.kind = old.kind and c.subject_hash = old.subject_hash
    """
)

_READ_CACHE = sa.text(
    """
    select c.tenant, c.kind, c.subject_hash, c.provider, c.verdict, c.reasons, c.flags, c.details
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(tenant text, kind text, subject_hash bigint)
    join verdict_cache c on c.tenant = t.tenant and c.kind = t.kind and c.subject_hash = t.subject_hash
    where c.expires_at > :now
    """
)

# Mailboxes that waited for a domain of which DNS says nothing for now: they need not wait for its return.
_UNBLOCK_SUBJECTS = sa.text(
    """
    update verification_requests mailbox set blocked = false
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(tenant text, subject_hash bigint)
    join verification_requests domain
        on domain.kind = 'mx' and domain.tenant = t.tenant and domain.subject_hash = t.subject_hash
    where mailbox.lead_id = domain.lead_id and mailbox.revision = domain.revision and mailbox.blocked
    """
)

# Mailboxes that waited for their domain: free to be looked up now.
_UNBLOCK = sa.text(
    """
    update verification_requests r set blocked = false
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(lead_id uuid, revision integer)
    where r.lead_id = t.lead_id and r.revision = t.revision and r.blocked
    """
)

_MAILBOXES_OF = sa.text(
    """
    select distinct on (r.tenant, r.subject_hash) r.tenant, r.subject_hash, r.lead_id
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(lead_id uuid, revision integer)
    join verification_requests r on r.lead_id = t.lead_id and r.revision = t.revision
    where r.kind = 'mailbox' and r.blocked
    order by r.tenant, r.subject_hash, r.lead_id
    """
)

# The leads of these that wait for nothing any more come to their turn at once. All their places at the door are locked:
# who is passing it just now is waited for.
_RELEASE = sa.text(
    """
    with doors as materialized (
        select p.stage, p.subject_id, p.revision, p.due_at
        from jsonb_to_recordset(cast(:rows as jsonb)) as t(lead_id uuid, revision integer)
        join pending p on p.stage = 'deduped_leads' and p.subject_id = t.lead_id and p.revision = t.revision
        order by p.subject_id
        for update of p
    )
    update pending p set due_at = :now
    from doors
    where p.stage = doors.stage and p.subject_id = doors.subject_id and doors.due_at > :now
        and not exists (
            select from verification_requests r where r.lead_id = doors.subject_id and r.revision = doors.revision
        )
    returning p.subject_id
    """
)

_GONE_ON = sa.text(
    """
    select d.lead_id, d.tenant, d.contact_id, d.sync_lane
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(lead_id uuid)
    join deduped_leads d on d.lead_id = t.lead_id
    """
)


def read_cached(
    connection: sa.Connection, tenant: str, wanted: Collection[tuple[LookupKind, int]], *, now: datetime
) -> dict[tuple[LookupKind, int], tuple[LookupVerdict, str]]:
    """What is known of these subjects (kind and hash) and by whom, as far as it has not expired."""
    if not wanted:
        return {}
    rows = json.dumps([{"tenant": tenant, "kind": kind, "subject_hash": hashed} for kind, hashed in wanted])
    return {
        (LookupKind(row.kind), row.subject_hash): (_verdict_of(row), row.provider)
        for row in connection.execute(_READ_CACHE, {"rows": rows, "now": now})
    }


def read_remembered(
    connection: sa.Connection, subjects: Iterable[tuple[str, LookupKind, int]], *, now: datetime
) -> list[SubjectVerdict]:
    """What is known of these subjects (tenant, kind and hash), as far as it has not expired."""
    rows = json.dumps([{"tenant": tenant, "kind": kind, "subject_hash": hashed} for tenant, kind, hashed in subjects])
    return [
        SubjectVerdict(
            row.tenant, LookupKind(row.kind), row.subject_hash, _verdict_of(row), row.provider, remembered=True
        )
        for row in connection.execute(_READ_CACHE, {"rows": rows, "now": now})
    ]


def write_known(connection: sa.Connection, tenant: str, known: Sequence[KnownVerdict], stamp: Stamp) -> None:
    """Write snapshots of what was known at validation: it cost nothing and nobody waited."""
    _insert_snapshots(
        connection,
        [
            {
                "tenant": tenant,
                "lead_id": str(item.lead_id),
                "revision": item.revision,
                "kind": item.kind,
                "tier": item.tier,
                "requested_at": stamp.now.isoformat(),
                "cost_micros": 0,
                "call_id": None,
                **_as_json(item.verdict, item.provider),
            }
            for item in known
        ],
        stamp,
    )


def settle(
    connection: sa.Connection, verdicts: Iterable[SubjectVerdict], stamp: Stamp, *, cache: VerdictCacheSettings
) -> Settled:
    """End the waiting of every lead for these subjects. A subject for which nobody waits changes nothing.

    A domain without mail settles its leads' mailboxes as well, unpaid.
    """
    given = {(item.tenant, item.kind, item.hash): item for item in verdicts}
    if not given:
        return Settled()
    leads = _settle_once(connection, given, stamp, cache=cache)
    leads += _follow_mx(connection, given, leads, stamp, cache=cache)
    if not leads:
        return Settled()
    # First the door, then what has passed it: a lead that is passing meanwhile is found by the second question.
    released = connection.execute(_RELEASE, {"rows": _leads_json(leads), "now": stamp.now}).all()
    upgraded = _refresh_contacts(connection, leads, stamp)
    return Settled(verdicts=len(leads), released=len(released), upgraded=upgraded)


def unblock_mailboxes(connection: sa.Connection, domains: Iterable[tuple[str, int]]) -> None:
    """Let the mailboxes of these domains (tenant and hash) be looked up although DNS has not answered."""
    rows = [{"tenant": tenant, "subject_hash": hashed} for tenant, hashed in domains]
    if rows:
        connection.execute(_UNBLOCK_SUBJECTS, {"rows": json.dumps(rows)})


def let_go(connection: sa.Connection, leads: Sequence[Any], reason: str, stamp: Stamp) -> Settled:
    """End the waiting of leads whose requests were deleted unserved: nothing was paid, nothing is remembered."""
    if not leads:
        return Settled()
    verdict = LookupVerdict(Standing.UNKNOWN, (reason,))
    _insert_snapshots(
        connection,
        [
            {
                "tenant": lead.tenant,
                "lead_id": str(lead.lead_id),
                "revision": lead.revision,
                "kind": lead.kind,
                "tier": lead.tier,
                "requested_at": lead.requested_at.isoformat(),
                "cost_micros": 0,
                "call_id": None,
                **_as_json(verdict, SKIPPED),
            }
            for lead in leads
        ],
        stamp,
    )
    if domains := [lead for lead in leads if lead.kind == LookupKind.MX]:
        connection.execute(_UNBLOCK, {"rows": _leads_json(domains)})
    released = connection.execute(_RELEASE, {"rows": _leads_json(leads), "now": stamp.now}).all()
    return Settled(verdicts=len(leads), released=len(released))


def prune_cache(connection: sa.Connection, *, expired_before: datetime) -> int:
    """Forget what expired before an instant, at most ``PRUNED_AT_ONCE`` verdicts; says how many."""
    values = {"before": expired_before, "limit": PRUNED_AT_ONCE}
    return connection.execute(_PRUNE_CACHE, values).rowcount


def _settle_once(
    connection: sa.Connection,
    given: Mapping[tuple[str, LookupKind, int], SubjectVerdict],
    stamp: Stamp,
    *,
    cache: VerdictCacheSettings,
) -> list[Any]:
    rows = [
        {"tenant": item.tenant, "kind": item.kind, "subject_hash": item.hash, **_as_json(item.verdict, item.provider)}
        for item in given.values()
    ]
    remembered = {(item.tenant, item.kind, item.hash) for item in given.values() if item.remembered}
    leads = connection.execute(_SETTLE, {"rows": json.dumps(rows)}).all()
    paid: set[tuple[str, LookupKind, int]] = set()
    snapshots: list[dict[str, Any]] = []
    for lead in sorted(leads, key=lambda lead: (lead.requested_at, lead.lead_id)):
        key = (lead.tenant, LookupKind(lead.kind), lead.subject_hash)
        item = given[key]
        snapshots.append(
            {
                "tenant": lead.tenant,
                "lead_id": str(lead.lead_id),
                "revision": lead.revision,
                "kind": lead.kind,
                "tier": lead.tier,
                "requested_at": lead.requested_at.isoformat(),
                "cost_micros": 0 if key in paid else item.cost_micros,
                "call_id": str(item.call_id) if item.call_id else None,
                **_as_json(item.verdict, item.provider),
            }
        )
        paid.add(key)
    _insert_snapshots(connection, snapshots, stamp)
    kept = [
        {**row, "expires_at": (stamp.now + timedelta(days=cache.days(str(row["verdict"])))).isoformat()}
        for row in rows
        if row["kind"] != LookupKind.MX
        and row["provider"] != BY_DNS  # DNS has a cache of its own, for all tenants
        and (row["tenant"], row["kind"], row["subject_hash"]) not in remembered
    ]
    if kept:
        connection.execute(_CACHE, {"rows": json.dumps(kept), "now": stamp.now})
    return list(leads)


def _follow_mx(
    connection: sa.Connection,
    given: Mapping[tuple[str, LookupKind, int], SubjectVerdict],
    leads: Sequence[Any],
    stamp: Stamp,
    *,
    cache: VerdictCacheSettings,
) -> list[Any]:
    """What DNS said decides about the mailboxes that waited for it."""
    domains = [lead for lead in leads if lead.kind == LookupKind.MX]
    if not domains:
        return []
    dead: list[Any] = []
    alive: list[Any] = []
    for lead in domains:
        verdict = given[lead.tenant, LookupKind.MX, lead.subject_hash].verdict
        (dead if verdict.standing is Standing.INVALID else alive).append(lead)
    if alive:
        connection.execute(_UNBLOCK, {"rows": _leads_json(alive)})
    if not dead:
        return []
    reasons = {lead.lead_id: given[lead.tenant, LookupKind.MX, lead.subject_hash].verdict.reasons for lead in dead}
    followed: dict[tuple[str, LookupKind, int], SubjectVerdict] = {}
    for row in connection.execute(_MAILBOXES_OF, {"rows": _leads_json(dead)}):
        key = (row.tenant, LookupKind.MAILBOX, row.subject_hash)
        verdict = LookupVerdict(Standing.INVALID, reasons[row.lead_id])
        followed[key] = SubjectVerdict(row.tenant, LookupKind.MAILBOX, row.subject_hash, verdict, BY_DNS)
    return _settle_once(connection, followed, stamp, cache=cache) if followed else []


def _refresh_contacts(connection: sa.Connection, leads: Sequence[Any], stamp: Stamp) -> int:
    contacts = {row.contact_id: row for row in connection.execute(_GONE_ON, {"rows": _leads_json(leads)})}
    enqueue(
        connection,
        Stage.GOLDEN_CONTACTS,
        [
            Waiting(contact_id, row.tenant, Lane(row.sync_lane), revision=1, since=stamp.now)
            for contact_id, row in contacts.items()
        ],
    )
    return len(contacts)


def _insert_snapshots(connection: sa.Connection, rows: list[dict[str, Any]], stamp: Stamp) -> None:
    if not rows:
        return
    identified = [{"verification_id": str(uuid7(stamp.now)), **row} for row in rows]
    values = {"now": stamp.now, "batch_id": stamp.batch_id, "runner_id": stamp.runner_id}
    connection.execute(_SNAPSHOTS, {"rows": json.dumps(identified), **values})


def _leads_json(leads: Iterable[Any]) -> str:
    return json.dumps([{"lead_id": str(lead.lead_id), "revision": lead.revision} for lead in leads])


def _as_json(verdict: LookupVerdict, provider: str) -> dict[str, Any]:
    return {
        "provider": provider,
        "verdict": verdict.standing,
        "reasons": list(verdict.reasons),
        "flags": list(verdict.flags),
        "details": dict(verdict.details),
    }


def _verdict_of(row: Any) -> LookupVerdict:
    return LookupVerdict(Standing(row.verdict), tuple(row.reasons), tuple(row.flags), row.details)
