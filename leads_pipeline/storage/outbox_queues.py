"""What waits in the outbox, by destination, lane and tenant, and which rows of it go next.

Every statement follows an index from queue to queue, so that its cost depends on how many queues there are, not on how
many rows wait in them. Keep out: claiming and settling (``outbox``), and which queue's turn it is (``crm.claiming``).
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from leads_pipeline.domain.consent_folding import ANY_CHANNEL
from leads_pipeline.domain.sending_gate import GateRule
from leads_pipeline.domain.stage import Lane, Operation


@dataclass(frozen=True, slots=True)
class Queue:
    """The upserts of one tenant and lane that could be claimed now; ``oldest_due`` is when the first became due."""

    lane: Lane
    tenant: str
    oldest_due: datetime


_OPEN = "state in ('waiting', 'in_flight')"
# A row whose claim has not run out is left alone in whatever state it is: when a merge turns an upsert that is under
# way into an archive, the archive must not overtake it.
CLAIMABLE = f"{_OPEN} and due_at <= :now and (claimed_until is null or claimed_until <= :now)"

# From queue to queue by the index of what is open, then the first row of each: nothing else is read. By all of its
# first columns: asked for the tenants of one lane, the planner took the index of tenants and states, and read ten
# million rows that waited in other lanes to find that this one has none.
_WAITING = sa.text(
    f"""
    with recursive queue as (
        (
            select o.destination, o.lane, o.tenant from outbox o
            where (o.destination, o.lane, o.tenant) >= (:destination, '', '') and o.{_OPEN}
            order by o.destination, o.lane, o.tenant limit 1
        )
        union all
        select later.destination, later.lane, later.tenant
        from queue
        cross join lateral (
            select o.destination, o.lane, o.tenant from outbox o
            where (o.destination, o.lane, o.tenant) > (queue.destination, queue.lane, queue.tenant) and o.{_OPEN}
            order by o.destination, o.lane, o.tenant limit 1
        ) later
        where queue.destination = :destination
    )
    select queue.lane, queue.tenant, first.due_at
    from queue
    cross join lateral (
        select due_at from outbox
        where destination = :destination and lane = queue.lane and tenant = queue.tenant
            and operation = 'upsert' and {CLAIMABLE}
        order by due_at, outbox_id limit 1
    ) first
    where queue.destination = :destination and queue.lane = any(:lanes)
    order by queue.lane, queue.tenant
    """  # noqa: S608 - no value is spliced in
)

_COUNT = sa.text(
    f"""
    select count(*) from (
        select from outbox
        where destination = :destination and lane = any(:lanes) and tenant = any(:tenants) and {CLAIMABLE}
        limit :most
    ) as first
    """  # noqa: S608 - no value is spliced in
)

# Rows that another process is just claiming are left out, so that two of them share a queue without waiting.
_PICK = """
    select picked.outbox_id, share.tenant
    from rows from (
        jsonb_to_recordset(cast(:shares as jsonb)) as (tenant text, most integer)
    ) with ordinality as share(tenant, most, place)
    cross join lateral (
        select outbox_id from outbox
        where destination = :destination and lane = :lane and tenant = share.tenant and operation = 'upsert'
            and {claimable}
        order by {order} limit share.most for update skip locked
    ) picked
    order by share.place
    """
_OLDEST = sa.text(_PICK.format(claimable=CLAIMABLE, order="due_at, outbox_id"))
_FRESHEST = sa.text(
    _PICK.format(claimable=f"{CLAIMABLE} and state = 'waiting' and attempts = 0", order="waiting_since desc")
)

_REMOVALS = sa.text(
    f"""
    select outbox_id, lane from outbox
    where destination = :destination and operation <> 'upsert' and operation = :operation and {CLAIMABLE}
        and lane = any(:lanes) and tenant = any(:tenants)
    order by due_at limit :most
    """  # noqa: S608 - no value is spliced in
)

# Who has withdrawn consent is not sent, but told about, or suppressed: either ends their wait. What waits at a closed
# gate is read for that, once for each look.
_WITHDRAWALS = sa.text(
    f"""
    select o.outbox_id, o.lane
    from jsonb_to_recordset(cast(:queues as jsonb)) as queue(tenant text, lane text)
    join outbox o on o.destination = :destination and o.lane = queue.lane and o.tenant = queue.tenant
    join golden_contacts g on g.contact_id = o.contact_id
    where o.operation = 'upsert' and o.{_OPEN} and o.due_at <= :now
        and (o.claimed_until is null or o.claimed_until <= :now)
        and coalesce(g.consent -> :purpose -> :channel, g.consent -> :purpose -> :any) ->> 'granted' = 'false'
    order by o.due_at limit :most
    """  # noqa: S608 - no value is spliced in
)

# Of contacts of several tenants with one address, the first: a CRM has it in one record, and refuses the request.
_ADDRESSES = sa.text(
    """
    select o.outbox_id, g.email_key
    from unnest(cast(:ids as bigint[])) with ordinality as picked(outbox_id, place)
    join outbox o on o.outbox_id = picked.outbox_id
    left join golden_contacts g on g.contact_id = o.contact_id
    order by picked.place
    """
)


def waiting_queues(
    connection: sa.Connection, *, destination: str, lanes: Sequence[Lane], tenants: Collection[str], now: datetime
) -> list[Queue]:
    """The queues of a destination from which something could be claimed at ``now``."""
    names = [str(lane) for lane in lanes]
    rows = connection.execute(_WAITING, {"destination": destination, "lanes": names, "now": now})
    return [Queue(Lane(row.lane), row.tenant, row.due_at) for row in rows if row.tenant in tenants]


def count_due(
    connection: sa.Connection,
    *,
    destination: str,
    lanes: Sequence[Lane],
    tenants: Collection[str],
    most: int,
    now: datetime,
) -> int:
    """How many rows could be claimed at ``now``; no more than ``most`` are counted."""
    values = {"destination": destination, "lanes": [str(lane) for lane in lanes], "tenants": list(tenants)}
    count: int = connection.execute(_COUNT, {**values, "most": most, "now": now}).scalar_one()
    return count


def pick(
    connection: sa.Connection,
    *,
    destination: str,
    lane: Lane,
    shares: Mapping[str, int],
    fresh: bool,
    now: datetime,
) -> list[tuple[int, str]]:
    """Lock upserts of one lane for the caller's transaction: of each tenant at most its share, the oldest first.

    Each row comes with its tenant, the tenants in the order of ``shares``. ``fresh``: those that were never tried, the
    newest first.
    """
    rows = json.dumps([{"tenant": tenant, "most": most} for tenant, most in shares.items()])
    statement = _FRESHEST if fresh else _OLDEST
    values = {"destination": destination, "lane": lane, "shares": rows, "now": now}
    return [(row.outbox_id, row.tenant) for row in connection.execute(statement, values)]


def removals_due(
    connection: sa.Connection,
    *,
    destination: str,
    lanes: Sequence[Lane],
    tenants: Collection[str],
    operation: Operation,
    most: int,
    now: datetime,
) -> list[tuple[int, Lane]]:
    """Rows that ask for a record to be taken away by ``operation``, the oldest first, each with its lane."""
    values = {
        "operation": operation,
        "destination": destination,
        "lanes": [str(lane) for lane in lanes],
        "tenants": list(tenants),
    }
    rows = connection.execute(_REMOVALS, {**values, "most": most, "now": now})
    return [(row.outbox_id, Lane(row.lane)) for row in rows]


def withdrawals_due(
    connection: sa.Connection,
    queues: Collection[tuple[str, Lane]],
    *,
    destination: str,
    rule: GateRule,
    most: int,
    now: datetime,
) -> list[tuple[int, Lane]]:
    """Upserts of these tenants' lanes whose contact has withdrawn the consent that the destination asks for.

    None where it asks for none: such a contact is sent like any other.
    """
    if rule.require == "nothing" or not queues:
        return []
    values = {
        "queues": json.dumps([{"tenant": tenant, "lane": lane} for tenant, lane in queues]),
        "destination": destination,
        "purpose": rule.purpose,
        "channel": rule.channel,
        "any": ANY_CHANNEL,
        "most": most,
        "now": now,
    }
    return [(row.outbox_id, Lane(row.lane)) for row in connection.execute(_WITHDRAWALS, values)]


def one_per_address(connection: sa.Connection, outbox_ids: Sequence[int]) -> list[int]:
    """The rows without those whose contact has the same address as an earlier one's."""
    seen: set[str] = set()
    kept = []
    for row in connection.execute(_ADDRESSES, {"ids": list(outbox_ids)}):
        if row.email_key is None or row.email_key not in seen:
            kept.append(row.outbox_id)
        if row.email_key is not None:
            seen.add(row.email_key)
    return kept
