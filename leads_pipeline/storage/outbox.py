"""The outbox of desired state: what every contact should look like at every destination, and what is known to be there.

``claim`` takes with a lease, ``settle`` writes what came of it. Two workers cannot both win a row: the claim locks it
(``skip locked``) and stamps its token, and a settlement needs that token. A worker that dies leaves the token behind;
after ``claimed_until`` anyone may claim the row again, and sending it twice is harmless. The worker of a claim that
ran out may still write, so a settlement that comes too late has the row sent once more. Keep out: what waits and goes
next (``outbox_queues``), and what is wanted (``outbox_demand``).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa

from leads_pipeline.domain.delivery import ClaimedRow, RecordVerdict
from leads_pipeline.domain.retry import NextStep
from leads_pipeline.domain.snapshot import Snapshot
from leads_pipeline.domain.stage import Lane, Operation, OutboxState
from leads_pipeline.storage.outbox_queues import CLAIMABLE
from leads_pipeline.storage.schema import golden_contacts, outbox


@dataclass(frozen=True, slots=True)
class Settlement:
    """What one record's row becomes. ``version`` is the one that was sent.

    ``snapshot`` and ``taken_over`` are what is known of the CRM after it; see ``ClaimedRow``. ``touched``: which
    properties it may have written there, ``None`` if it wrote nothing.
    """

    verdict: RecordVerdict
    step: NextStep
    version: int
    snapshot: Mapping[str, int | None]
    taken_over: bool | None = None
    touched: Collection[str] | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """What the row became. A newer wanted version turns any outcome into ``waiting``."""

    outbox_id: int
    state: OutboxState


_CLAIM = sa.text(
    f"""
    with taken as materialized (
        select outbox_id from outbox
        where outbox_id = any(:ids) and {CLAIMABLE}
        order by outbox_id
        for update skip locked
    )
    update outbox set
        -- What became of a claim that ran out is unknown, and must not be forgotten when the next attempt fails.
        last_verdict = case when claimed_by is not null then 'ambiguous' else last_verdict end,
        state = 'in_flight', claimed_by = :token, claimed_until = :until, claim_owner = :owner, withheld = null,
        under_way_until = null, updated_at = :now
    from taken where outbox.outbox_id = taken.outbox_id
    returning outbox.outbox_id, outbox.tenant, outbox.contact_id, outbox.operation, outbox.lane, outbox.wanted_version,
        outbox.delivered_version, outbox.attempts, outbox.crm_record_id, outbox.snapshot, outbox.failures,
        outbox.taken_over, outbox.claims_record, outbox.former_records,
        coalesce(outbox.last_verdict = 'ambiguous', false) as uncertain
    """  # noqa: S608 - no value is spliced in
)

# In the order of the other statements that lock these rows, so that no two of them can deadlock. Whoever wants
# something else of a row has committed before, or comes after the request that it is kept for.
_KEEP = sa.text(
    """
    with mine as materialized (
        select outbox_id from outbox
        where outbox_id = any(:ids) and claimed_by = :token
        order by outbox_id
        for update
    )
    update outbox o set claimed_until = :until, claim_owner = :owner,
        under_way_until = case when o.outbox_id = any(:sent) then :under_way_until else o.under_way_until end,
        taken_over = case when :links and o.outbox_id = any(:sent) then true else o.taken_over end
    from mine, jsonb_to_recordset(cast(:rows as jsonb)) as claimed(
        outbox_id bigint, version integer, operation text, claims_record text
    )
    where o.outbox_id = mine.outbox_id and claimed.outbox_id = mine.outbox_id
        and o.wanted_version = claimed.version and o.operation = claimed.operation
        and o.claims_record is not distinct from claimed.claims_record
    returning o.outbox_id
    """
)

_UNCLAIM = sa.text(
    """
    with mine as materialized (
        select outbox_id from outbox
        where outbox_id = any(:ids) and claimed_by = :token
        order by outbox_id
        for update
    )
    update outbox o set
        state = case when o.state = 'in_flight' then 'waiting' else o.state end,
        claimed_by = null, claimed_until = null, claim_owner = null, updated_at = :now
    from mine where o.outbox_id = mine.outbox_id
    """
)

# What was sent is known to be there even if more is wanted by now; then the row waits again with a fresh budget. A row
# that somebody else has claimed since is theirs; but what we wrote may have come after what they wrote, or come yet. So
# it is not known what is there: a claim on it ends, and everything is sent again.
_SETTLE = sa.text(
    """
    with held as materialized (
        select o.outbox_id, coalesce(o.claimed_by = :token, false) as ours from outbox o
        where o.outbox_id = any(:ids)
        order by o.outbox_id
        for update
    ),
    mine as (select outbox_id from held where ours),
    doubted as (
        update outbox o set
            state = case when o.state = 'cancelled' then o.state else 'waiting' end,
            last_verdict = 'ambiguous',
            snapshot = case when o.operation = 'erase' then o.snapshot
                else coalesce(o.snapshot, '{}') || s.touched end,
            former_records = case
                when s.verdict = 'delivered' and s.operation <> 'erase' and s.crm_record_id is not null
                        and s.crm_record_id is distinct from o.crm_record_id
                    then array_append(array_remove(o.former_records, s.crm_record_id), s.crm_record_id)
                else o.former_records end,
            suppressed_for = null,
            waiting_since = case when o.state = 'waiting' then o.waiting_since else :now end,
            due_at = :now,
            attempts = 0,
            failures = '{}',
            claimed_by = null,
            claim_owner = null,
            updated_at = :now
        from held join jsonb_to_recordset(cast(:rows as jsonb)) as s(
            outbox_id bigint, operation text, verdict text, crm_record_id text, touched jsonb
        )
            on s.outbox_id = held.outbox_id
        where o.outbox_id = held.outbox_id and not held.ours and s.touched is not null
    )
    update outbox o set
        state = case
            when o.state in ('suppressed', 'cancelled') then o.state
            when o.wanted_version > s.version or o.operation <> s.operation then 'waiting'
            else s.state end,
        due_at = case
            when o.wanted_version > s.version or o.operation <> s.operation then :now
            else s.due_at end,
        attempts = case
            when o.wanted_version > s.version or o.operation <> s.operation then 0
            else s.attempts end,
        failures = case
            when o.wanted_version > s.version or o.operation <> s.operation then '{}'
            else s.failures end,
        delivered_version = case
            when s.state = 'delivered' then greatest(coalesce(o.delivered_version, 0), s.version)
            else o.delivered_version end,
        delivered_at = case when s.state = 'delivered' then :now else o.delivered_at end,
        snapshot = s.snapshot,
        -- What was noted of a request that was to take a record over holds until one is known to be there.
        taken_over = case when s.verdict = 'delivered' then s.taken_over else o.taken_over end,
        claims_record = case when s.state = 'delivered' then null else o.claims_record end,
        crm_record_id = case
            when s.state = 'delivered' and s.operation = 'erase' then null
            when s.verdict = 'delivered' then coalesce(s.crm_record_id, o.crm_record_id)
            else o.crm_record_id end,
        former_records = case
            when s.state = 'delivered' and s.operation = 'erase' then '{}'
            when s.verdict = 'delivered' and s.crm_record_id <> o.crm_record_id
                then array_append(array_remove(o.former_records, s.crm_record_id), o.crm_record_id)
            else o.former_records end,
        -- Ambiguous until delivered: what may be at the CRM must be archived when the contact is merged away.
        last_verdict = case
            when o.last_verdict = 'ambiguous' and s.verdict <> 'delivered' then o.last_verdict else s.verdict end,
        claimed_by = null,
        claimed_until = null,
        claim_owner = null,
        under_way_until = null,
        updated_at = :now
    from mine join jsonb_to_recordset(cast(:rows as jsonb)) as s(
        outbox_id bigint, version integer, operation text, state text, due_at timestamptz, attempts integer,
        verdict text, crm_record_id text, snapshot jsonb, failures jsonb,
        taken_over boolean
    ) on s.outbox_id = mine.outbox_id
    where o.outbox_id = mine.outbox_id
    returning o.outbox_id, o.state
    """
)

# Whoever has claimed the row since finds its claim gone, too, and does the same: nobody knows which of the two requests
# was carried out last. Until it has settled, or its lease is over, the row is left alone.
_DOUBT = sa.text(
    """
    with overtaken as materialized (
        select outbox_id, state in ('delivered', 'suppressed', 'in_flight') as again from outbox
        where outbox_id = any(:ids)
        order by outbox_id
        for update
    )
    update outbox o set
        last_verdict = 'ambiguous',
        state = case when again then 'waiting' else o.state end,
        suppressed_for = case when again then null else o.suppressed_for end,
        waiting_since = case when again then cast(:now as timestamptz) else o.waiting_since end,
        due_at = case when again then cast(:now as timestamptz) else o.due_at end,
        attempts = case when again then 0 else o.attempts end,
        claimed_until = case when o.claimed_by is null then null else o.claimed_until end,
        claimed_by = null,
        updated_at = :now
    from overtaken where o.outbox_id = overtaken.outbox_id
    """
)

# The claim of the same transaction has locked these rows.
_NOTE_TOUCHED = sa.text(
    """
    update outbox o set snapshot = coalesce(o.snapshot, '{}') || t.touched
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(outbox_id bigint, touched jsonb)
    where o.outbox_id = t.outbox_id and o.claimed_by = :token
    """
)

_SUPPRESS = sa.text(
    """
    update outbox o set state = 'suppressed', suppressed_for = t.reason, claimed_by = null, claimed_until = null,
        news_after_version = o.wanted_version, updated_at = :now
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(outbox_id bigint, reason text)
    where o.outbox_id = t.outbox_id and o.claimed_by = :token
    """
)

# Where a value comes from is no destination's business, and reading it from JSON took as long as all the rest.
_SENT = [column for column in golden_contacts.c if column.name not in ("attribution", "provenance")]
_WITHOUT_ADDRESS: dict[str, None] = {"email": None, "email_verdict": None}


def claim(
    connection: sa.Connection,
    outbox_ids: Sequence[int],
    *,
    token: str,
    until: datetime,
    now: datetime,
    owner: int | None = None,
) -> list[ClaimedRow]:
    """Take those of ``outbox_ids`` that are still due and free, until ``until``, or until ``owner`` is gone."""
    values = {"ids": list(outbox_ids), "token": token, "until": until, "owner": owner, "now": now}
    rows = connection.execute(_CLAIM, values)
    claimed = [
        ClaimedRow(
            outbox_id=r.outbox_id,
            tenant=r.tenant,
            contact_id=r.contact_id,
            operation=Operation(r.operation),
            lane=Lane(r.lane),
            wanted_version=r.wanted_version,
            delivered_version=r.delivered_version,
            attempts=r.attempts,
            crm_record_id=r.crm_record_id,
            snapshot=r.snapshot or {},
            failures=r.failures,
            taken_over=r.taken_over,
            claims_record=r.claims_record,
            former_records=tuple(r.former_records),
            uncertain=r.uncertain,
        )
        for r in rows
    ]
    return sorted(claimed, key=lambda row: row.outbox_id)


def wanted_contacts(connection: sa.Connection, contact_ids: Sequence[UUID]) -> dict[UUID, dict[str, Any]]:
    """The golden rows that claimed rows are to send, by contact.

    In the claim's transaction they are those of the wanted versions: a new version, or a merge, must change the outbox
    row in the same commit, and that row is locked. A contact that does not hold its address goes without: a CRM has it
    in one record only.
    """
    rows = connection.execute(sa.select(*_SENT).where(golden_contacts.c.contact_id.in_(contact_ids)))
    return {
        row["contact_id"]: {**row, **(_WITHOUT_ADDRESS if row["email_key"] is None else {})} for row in rows.mappings()
    }


def snapshots_of(
    connection: sa.Connection, contact_ids: Sequence[UUID], *, tenant: str, destinations: Collection[str]
) -> dict[UUID, list[Snapshot]]:
    """What these destinations are known to hold of each contact; a contact that none was sent is not in the answer."""
    rows = connection.execute(
        sa.select(outbox.c.contact_id, outbox.c.snapshot).where(
            outbox.c.contact_id.in_(contact_ids),
            outbox.c.tenant == tenant,
            outbox.c.destination.in_(destinations),
            outbox.c.snapshot.is_not(None),
        )
    )
    found: dict[UUID, list[Snapshot]] = {}
    for row in rows:
        found.setdefault(row.contact_id, []).append(row.snapshot)
    return found


def keep_claims(
    connection: sa.Connection,
    claimed: Sequence[ClaimedRow],
    *,
    sent: Collection[int],
    token: str,
    owner: int | None,
    until: datetime,
    under_way_until: datetime,
    links: bool = False,
) -> set[int]:
    """Keep these rows until ``until``, or until ``owner`` is gone; answers those of which all is as it was claimed.

    A row that somebody else has claimed since, or of which something else is wanted by now, is not among them. A
    request with those that are ``sent`` is under way until ``under_way_until``, even if nobody is there to await it. If
    it ``links``, it is noted that each may have taken over a record that people made, whatever is heard of it.
    """
    rows = [
        {
            "outbox_id": row.outbox_id,
            "version": row.wanted_version,
            "operation": row.operation,
            "claims_record": row.claims_record,
        }
        for row in claimed
    ]
    values = {
        "ids": [row.outbox_id for row in claimed],
        "rows": _json(rows),
        "sent": list(sent),
        "token": token,
        "owner": owner,
        "until": until,
        "under_way_until": under_way_until,
        "links": links,
    }
    return set(connection.execute(_KEEP, values).scalars())


def unclaim(connection: sa.Connection, outbox_ids: Sequence[int], *, token: str, now: datetime) -> None:
    """Let rows wait again of which nothing was sent; each keeps its place."""
    connection.execute(_UNCLAIM, {"ids": list(outbox_ids), "token": token, "now": now})


def settle(
    connection: sa.Connection,
    settlements: Sequence[Settlement],
    *,
    token: str,
    operation: Operation,
    now: datetime,
) -> list[Settled]:
    """Write what came of the claim ``token``; answers the rows that it still held.

    A row that somebody else has claimed since is sent again, whatever they sent: our write may have come after theirs.
    """
    rows: list[dict[str, Any]] = [
        {
            "outbox_id": item.verdict.outbox_id,
            "version": item.version,
            "operation": operation,
            "state": item.step.state,
            "due_at": item.step.due_at.isoformat(),
            "attempts": item.step.attempts,
            "failures": dict(item.step.failures),
            "verdict": item.verdict.verdict,
            "crm_record_id": item.verdict.crm_record_id,
            "snapshot": dict(item.snapshot),
            "taken_over": item.taken_over,
            "touched": None if item.touched is None else dict.fromkeys(item.touched),
        }
        for item in settlements
    ]
    ids = [row["outbox_id"] for row in rows]
    found = connection.execute(_SETTLE, {"rows": _json(rows), "ids": ids, "token": token, "now": now})
    return [Settled(r.outbox_id, OutboxState(r.state)) for r in found]


def doubt(connection: sa.Connection, outbox_ids: Sequence[int], *, now: datetime) -> None:
    """Have rows sent again, whole, that others had claimed before the answer to an older request with them came."""
    if outbox_ids:
        connection.execute(_DOUBT, {"ids": list(outbox_ids), "now": now})


def note_touched(connection: sa.Connection, touched: Mapping[int, Iterable[str]], *, token: str) -> None:
    """Write down, before they are sent, the properties of which the snapshots of these rows know nothing yet.

    A worker that dies leaves no other trace of what it may have written, and nothing of it could be cleared again.
    """
    rows = [{"outbox_id": outbox_id, "touched": dict.fromkeys(names)} for outbox_id, names in touched.items()]
    if rows:
        connection.execute(_NOTE_TOUCHED, {"rows": _json(rows), "token": token})


def suppress(connection: sa.Connection, reasons: Mapping[int, str], *, token: str, now: datetime) -> None:
    """Hold rows back that must not be sent, each with the code of its reason, until somebody wants them again."""
    rows = [{"outbox_id": outbox_id, "reason": reason} for outbox_id, reason in reasons.items()]
    connection.execute(_SUPPRESS, {"rows": _json(rows), "token": token, "now": now})


def cancel(connection: sa.Connection, outbox_ids: Sequence[int], *, token: str, now: datetime) -> None:
    """Take rows out whose contact has no golden record: there is nothing to send."""
    connection.execute(
        sa.text(
            "update outbox set state = 'cancelled', claimed_by = null, claimed_until = null, updated_at = :now "
            "where outbox_id = any(:ids) and claimed_by = :token"
        ),
        {"ids": list(outbox_ids), "token": token, "now": now},
    )


def _json(rows: Sequence[Mapping[str, Any]]) -> str:
    return msgspec.json.encode(rows).decode()
