"""What golden contacts want of the outbox. How it is delivered is ``storage.outbox``.

A delivery that is under way keeps its claim whatever is wanted meanwhile; its settlement sees that the wanted version
or operation has moved on and lets the row wait again.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.stage import Lane
from leads_pipeline.storage import bulk_jobs, outbox_records
from leads_pipeline.storage.dead_letters import supersede
from leads_pipeline.storage.golden import uuid_array


@dataclass(frozen=True, slots=True)
class Demand:
    """A version of a contact that a destination must come to have."""

    contact_id: UUID
    destination: str
    version: int
    lane: Lane


# In the order in which settlements lock them, so that the two cannot deadlock.
_LOCK = sa.text(
    """
    select contact_id, destination, wanted_version from outbox
    where tenant = :tenant and contact_id = any(cast(:ids as uuid[]))
    order by outbox_id
    for update
    """
)

# An unanswered or ambiguous request counts as sent.
_MAY_BE_THERE = """
    o.delivered_version is not null or o.crm_record_id is not null or o.former_records <> '{}'
        or o.claimed_by is not null or coalesce(o.last_verdict = 'ambiguous', false)
        or coalesce(o.snapshot, '{}') <> '{}'
"""

# Never sent: nothing is there to take back. Otherwise the destination must forget the record. An archive is as urgent
# as the survivor: until it is done, the destination may refuse the survivor for an address that the other record holds.
_WITHDRAW = sa.text(
    f"""
    with gone as materialized (
        select o.outbox_id,
            case when array_position(array['real_time', 'near_real_time', 'batch'], t.lane)
                    < array_position(array['real_time', 'near_real_time', 'batch'], o.lane)
                then t.lane else o.lane end as lane,
            {_MAY_BE_THERE} as sent
        from jsonb_to_recordset(cast(:rows as jsonb)) as t(contact_id uuid, lane text)
        -- A look-up for each contact: after a bulk load, without statistics, a join read the tenant's rows for each.
        cross join lateral (select * from outbox where outbox.contact_id = t.contact_id offset 0) o
        where o.tenant = :tenant and o.operation = 'upsert' and o.state <> 'cancelled'
    )
    update outbox o set
        lane = gone.lane,
        operation = case when gone.sent then 'archive' else o.operation end,
        state = case when gone.sent then 'waiting' else 'cancelled' end,
        wanted_version = case when gone.sent then o.wanted_version + 1 else o.wanted_version end,
        waiting_since = case when gone.sent then cast(:now as timestamptz) else o.waiting_since end,
        due_at = case when gone.sent then cast(:now as timestamptz) else o.due_at end,
        attempts = 0,
        updated_at = :now
    from gone where o.outbox_id = gone.outbox_id
    returning o.outbox_id, gone.sent
    """  # noqa: S608 - no value is spliced in
)

# A row that waits already keeps its place: a contact that changes again and again must not be put off again and again.
# Dead is waiting again, since what was refused has changed; so is what must not be sent: the gate judges it anew. What
# is to be erased is never wanted again: the contact of somebody who comes back is another one.
_DEMAND = sa.text(
    """
    insert into outbox as o (
        tenant, contact_id, destination, operation, state, lane, wanted_version, waiting_since, due_at, attempts,
        news_after_version, updated_at
    )
    select :tenant, t.contact_id, t.destination, 'upsert', 'waiting', t.lane, t.version, :now, :now, 0,
        t.version - 1, :now
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(
        contact_id uuid, destination text, version integer, lane text
    )
    order by t.contact_id, t.destination
    on conflict (contact_id, destination) do update set
        operation = 'upsert',
        state = case when o.state = 'in_flight' then o.state else 'waiting' end,
        suppressed_for = null,
        lane = case
            when o.state in ('waiting', 'in_flight')
                and array_position(array['real_time', 'near_real_time', 'batch'], o.lane)
                  < array_position(array['real_time', 'near_real_time', 'batch'], excluded.lane)
            then o.lane else excluded.lane end,
        wanted_version = excluded.wanted_version,
        waiting_since = case when o.state = 'waiting' then least(o.waiting_since, excluded.waiting_since)
            else excluded.waiting_since end,
        due_at = case when o.state = 'in_flight' then o.due_at else excluded.due_at end,
        attempts = case when o.state = 'in_flight' then o.attempts else 0 end,
        updated_at = excluded.updated_at
    where o.operation <> 'erase'
    """
)

# The caller has locked the rows.
_HURRY = sa.text(
    """
    update outbox o set lane = t.lane
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(contact_id uuid, lane text)
    where o.contact_id = t.contact_id and o.tenant = :tenant and o.operation = 'upsert' and o.state = 'waiting'
        and o.delivered_version is null
        and array_position(array['real_time', 'near_real_time', 'batch'], t.lane)
          < array_position(array['real_time', 'near_real_time', 'batch'], o.lane)
    """
)

# What was never sent is nowhere to be erased. Whatever waits gives way at once; what is under way keeps its claim, and
# its settlement lets the row wait again, as its operation has changed.
_ERASE = sa.text(
    f"""
    with gone as materialized (
        select o.outbox_id, {_MAY_BE_THERE} as sent
        from outbox o
        where o.tenant = :tenant and o.contact_id = any(cast(:ids as uuid[])) and o.operation <> 'erase'
        order by o.outbox_id
        for update
    )
    update outbox o set
        operation = 'erase',
        state = case when gone.sent then 'waiting' else 'cancelled' end,
        lane = 'real_time',
        wanted_version = o.wanted_version + 1,
        waiting_since = :now,
        due_at = :now,
        attempts = 0,
        snapshot = null,
        suppressed_for = null,
        claims_record = null,
        withheld = null,
        updated_at = :now
    from gone where o.outbox_id = gone.outbox_id
    returning o.outbox_id, o.contact_id, gone.sent
    """  # noqa: S608 - no value is spliced in
)

_FILL_IN = sa.text(
    """
    insert into outbox (
        tenant, contact_id, destination, operation, state, lane, wanted_version, waiting_since, due_at, attempts,
        news_after_version, updated_at
    )
    select :tenant, t.contact_id, t.destination, 'upsert', 'waiting', t.lane, t.version, :now, :now, 0,
        t.version, :now
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(
        contact_id uuid, destination text, version integer, lane text
    )
    order by t.contact_id, t.destination
    on conflict (contact_id, destination) do nothing
    """
)


_EMPTY_LETTERS = sa.text("update dead_letters set payload = '{}', explanation = null where outbox_id = any(:ids)")


def lock_rows(connection: sa.Connection, *, tenant: str, contact_ids: Sequence[UUID]) -> dict[UUID, int]:
    """Lock these contacts' outbox rows, and say up to which version each contact was ever wanted anywhere."""
    wanted: dict[UUID, int] = {}
    for row in connection.execute(_LOCK, {"tenant": tenant, "ids": uuid_array(contact_ids)}):
        wanted[row.contact_id] = max(row.wanted_version, wanted.get(row.contact_id, 0))
    return wanted


def withdraw(
    connection: sa.Connection,
    contacts: Mapping[UUID, Lane | None],
    *,
    survivors: Mapping[UUID, UUID] | None = None,
    hand_on: Collection[str] = (),
    tenant: str,
    now: datetime,
) -> tuple[int, int]:
    """Take back what was wanted for contacts that are no more: how many rows are to be archived, how many cancelled.

    ``contacts`` gives each the lane of its survivor, if it has one, ``survivors`` who that is. At the destinations
    ``hand_on`` the survivor may take over the record; the row is cancelled then. Their dead letters are closed: nobody
    could redrive or discard them any more.
    """
    handed_on = outbox_records.hand_on(connection, survivors or {}, destinations=hand_on, tenant=tenant, now=now)
    given = json.dumps([{"contact_id": str(contact_id), "lane": lane} for contact_id, lane in contacts.items()])
    rows = connection.execute(_WITHDRAW, {"rows": given, "tenant": tenant, "now": now}).all()
    if rows:
        outbox_records.archive_claimed(connection, contacts.keys(), tenant=tenant, now=now)
    if rows or handed_on:
        supersede(connection, [*(row.outbox_id for row in rows), *handed_on], now=now)
    archived = sum(row.sent for row in rows)
    return archived, len(rows) - archived + len(handed_on)


def erase(connection: sa.Connection, contact_ids: Sequence[UUID], *, tenant: str, now: datetime) -> tuple[int, int]:
    """Have these contacts erased wherever they were sent: how many rows are to be erased, how many cancelled.

    It wins over everything: what waits gives way, what is under way is erased after it, and no later version is ever
    wanted. Their letters, and the jobs they are in, lose what they hold of the person. Safe to repeat.
    """
    # Who was merged into them is the same person; a record that was to go from one to the other goes for good.
    everybody = {*contact_ids, *outbox_records.merged_into(connection, contact_ids, tenant=tenant)}
    everybody |= set(outbox_records.givers(connection, list(everybody), tenant=tenant))
    rows = connection.execute(_ERASE, {"tenant": tenant, "ids": uuid_array(everybody), "now": now}).all()
    if rows:
        supersede(connection, [row.outbox_id for row in rows], now=now)
        connection.execute(_EMPTY_LETTERS, {"ids": [row.outbox_id for row in rows]})
        bulk_jobs.forget(connection, {row.outbox_id: row.contact_id for row in rows})
    erased = sum(row.sent for row in rows)
    return erased, len(rows) - erased


def demand(connection: sa.Connection, demands: Iterable[Demand], *, tenant: str, now: datetime) -> None:
    """Want these versions delivered."""
    demands = list(demands)
    wanted = [(item.contact_id, item.destination) for item in demands]
    outbox_records.give_back(connection, wanted, tenant=tenant, now=now)
    _send(connection, _DEMAND, demands, tenant=tenant, now=now)


def fill_in(connection: sa.Connection, demands: Iterable[Demand], *, tenant: str, now: datetime) -> None:
    """Want these versions delivered where nothing was wanted of the contact yet: a destination that was added later."""
    _send(connection, _FILL_IN, demands, tenant=tenant, now=now)


def hurry(connection: sa.Connection, lanes: Mapping[UUID, Lane], *, tenant: str) -> None:
    """Let contacts that wait to be sent for the first time wait in these lanes, where those are more urgent."""
    rows = [{"contact_id": str(contact_id), "lane": lane} for contact_id, lane in lanes.items()]
    if rows:
        connection.execute(_HURRY, {"rows": json.dumps(rows), "tenant": tenant})


def _send(
    connection: sa.Connection, statement: sa.TextClause, demands: Iterable[Demand], *, tenant: str, now: datetime
) -> None:
    rows = [
        {
            "contact_id": str(item.contact_id),
            "destination": item.destination,
            "version": item.version,
            "lane": item.lane,
        }
        for item in demands
    ]
    if rows:
        connection.execute(statement, {"rows": json.dumps(rows), "tenant": tenant, "now": now})
