"""Records of a CRM that go from one contact to another when the two are merged, and back when that is undone.

The survivor's row claims the record (``claims_record``), the other row is cancelled and remembers it
(``crm_record_id``) until the claim is delivered. Callers hold the locks of the rows of the contacts that they name.
"""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.storage.golden import uuid_array
from leads_pipeline.storage.schema import contacts

# Only between rows of which all is known: nothing under way, no request that got lost. A record is handed on to a
# survivor that has none, or one that people made to a survivor whose own we made, which the client archives then.
_HAND_ON = sa.text(
    """
    with pair as (
        select l.outbox_id as giver, l.crm_record_id, l.taken_over, s.outbox_id as taker,
            -- From now on known by name only: the taker overwrites or clears it, the giver may get a new record.
            coalesce((select jsonb_object_agg(name, null) from jsonb_object_keys(l.snapshot) as name), '{}') as names,
            s.crm_record_id is null as bare,
            row_number() over (
                partition by s.outbox_id order by l.taken_over desc nulls last, l.outbox_id
            ) as place
        from jsonb_to_recordset(cast(:rows as jsonb)) as t(contact_id uuid, survivor uuid)
        cross join lateral (select * from outbox where outbox.contact_id = t.contact_id offset 0) l
        cross join lateral (
            select * from outbox
            where outbox.contact_id = t.survivor and outbox.destination = l.destination offset 0
        ) s
        where l.tenant = :tenant and s.tenant = :tenant and l.destination = any(:destinations)
            and l.operation = 'upsert' and s.operation = 'upsert'
            and l.state <> 'cancelled' and s.state <> 'cancelled'
            and l.claimed_by is null and s.claimed_by is null
            and l.claims_record is null and s.claims_record is null
            and coalesce(l.last_verdict, '') <> 'ambiguous' and coalesce(s.last_verdict, '') <> 'ambiguous'
            and l.crm_record_id is not null
            and (s.crm_record_id is null and s.delivered_version is null or not s.taken_over and l.taken_over)
    ),
    chosen as (select * from pair where place = 1),
    given as (
        update outbox o set state = 'cancelled', snapshot = chosen.names, attempts = 0, updated_at = :now
        from chosen where o.outbox_id = chosen.giver
        returning o.outbox_id
    ),
    taken as (
        update outbox o set
            claims_record = chosen.crm_record_id,
            taken_over = case when chosen.bare then chosen.taken_over else o.taken_over end,
            snapshot = coalesce(o.snapshot, '{}') || chosen.names,
            state = 'waiting',
            suppressed_for = null,
            waiting_since = case when o.state = 'waiting' then o.waiting_since else :now end,
            due_at = :now,
            attempts = 0,
            updated_at = :now
        from chosen where o.outbox_id = chosen.taker
    )
    select outbox_id from given
    """
)

# The contact returns before its record was handed on, or while it is: the claim ends. If it was tried, nobody knows
# whose the record is by now, and both are sent by their keys, this one after the other's claim has run out.
_RETURN = sa.text(
    """
    with back as (
        select o.outbox_id, o.destination, o.crm_record_id
        from jsonb_to_recordset(cast(:rows as jsonb)) as t(contact_id uuid, destination text)
        cross join lateral (
            select * from outbox
            where outbox.contact_id = t.contact_id and outbox.destination = t.destination offset 0
        ) o
        where o.tenant = :tenant and o.state = 'cancelled' and o.operation = 'upsert' and o.crm_record_id is not null
    ),
    freed as (
        update outbox s set
            claims_record = null,
            taken_over = case when s.crm_record_id is null then null else s.taken_over end,
            updated_at = :now
        from back where s.destination = back.destination and s.claims_record = back.crm_record_id
            and s.tenant = :tenant
        returning back.outbox_id, s.claimed_until, s.attempts > 0 or s.claimed_by is not null as tried
    )
    update outbox l set
        crm_record_id = case when freed.tried is false then l.crm_record_id end,
        taken_over = case when freed.tried is false then l.taken_over end,
        claimed_until = freed.claimed_until
    from back left join freed on freed.outbox_id = back.outbox_id
    where l.outbox_id = back.outbox_id
    """
)

# The one that was to take a record over is gone itself: the record goes, as it would have gone without a claim.
_ARCHIVE_CLAIMED = sa.text(
    """
    with ended as (
        update outbox s set claims_record = null
        from (
            select outbox_id, destination, claims_record from outbox
            where tenant = :tenant and contact_id = any(cast(:ids as uuid[])) and claims_record is not null
        ) claimed
        where s.outbox_id = claimed.outbox_id
        returning claimed.destination, claimed.claims_record
    )
    update outbox l set operation = 'archive', state = 'waiting', wanted_version = l.wanted_version + 1,
        waiting_since = :now, due_at = :now, attempts = 0, updated_at = :now
    from ended
    where l.destination = ended.destination and l.crm_record_id = ended.claims_record and l.state = 'cancelled'
        and l.tenant = :tenant and l.operation = 'upsert'
    returning l.outbox_id
    """
)

_HOLD = sa.text(
    """
    select pg_advisory_xact_lock(hashtextextended(record.name, 0))
    from (select distinct name from unnest(cast(:names as text[])) as t(name) order by name) as record
    """
)

_ALSO_TAKEN = sa.text(
    """
    select outbox_id, crm_record_id from outbox
    where destination = :destination and crm_record_id = any(:records) and taken_over and operation = 'upsert'
        and state <> 'cancelled' and not outbox_id = any(:ids)
    """
)

_GIVERS = sa.text(
    """
    select l.contact_id from outbox s
    join outbox l on l.destination = s.destination and l.crm_record_id = s.claims_record and l.state = 'cancelled'
        and l.tenant = s.tenant
    where s.tenant = :tenant and s.contact_id = any(cast(:ids as uuid[])) and s.claims_record is not null
    """
)

# Rows of others than the caller's: one that is locked is left, and its memory is harmless.
_FORGET = sa.text(
    """
    with done as materialized (
        select outbox_id from outbox
        where destination = :destination and crm_record_id = any(:records) and state = 'cancelled'
            and operation = 'upsert'
        for update skip locked
    )
    update outbox o set crm_record_id = null from done where o.outbox_id = done.outbox_id
    """
)


def hand_on(
    connection: sa.Connection,
    survivors: Mapping[UUID, UUID],
    *,
    destinations: Collection[str],
    tenant: str,
    now: datetime,
) -> list[int]:
    """Let survivors claim the records of those that were merged into them (contact → survivor), where that can be.

    Answers the rows whose record is claimed; they are cancelled. ``destinations`` are those that can hand records on.
    """
    if not survivors or not destinations:
        return []
    rows = [{"contact_id": str(one), "survivor": str(other)} for one, other in survivors.items()]
    values = {"rows": json.dumps(rows), "destinations": list(destinations), "tenant": tenant, "now": now}
    return list(connection.execute(_HAND_ON, values).scalars())


def hold_records(connection: sa.Connection, records: Collection[str], *, destination: str) -> None:
    """Have nobody else note, before the caller's transaction ends, that a contact took over one of these records."""
    if records:
        connection.execute(_HOLD, {"names": [f"{destination} {record}" for record in records]})


def taken_over_twice(connection: sa.Connection, linked: Mapping[int, str], *, destination: str) -> list[int]:
    """The rows of ``linked`` (record by row), and of others, that took over one record.

    Two processes may both have found it without a key of ours, and each have given it another one.
    """
    if not linked:
        return []
    values = {"destination": destination, "records": list(linked.values()), "ids": list(linked)}
    others = {row.outbox_id: row.crm_record_id for row in connection.execute(_ALSO_TAKEN, values)}
    both = set(others.values()) | {item for item, count in Counter(linked.values()).items() if count > 1}
    return sorted([*others, *(outbox_id for outbox_id, record in linked.items() if record in both)])


def give_back(connection: sa.Connection, wanted: Sequence[tuple[UUID, str]], *, tenant: str, now: datetime) -> None:
    """Before contacts are wanted again (contact, destination): end the claims on records that they had."""
    rows = [{"contact_id": str(contact_id), "destination": destination} for contact_id, destination in wanted]
    connection.execute(_RETURN, {"rows": json.dumps(rows), "tenant": tenant, "now": now})


def archive_claimed(connection: sa.Connection, contact_ids: Collection[UUID], *, tenant: str, now: datetime) -> int:
    """Archive the records that these contacts, which are no more, were to take over; how many."""
    values = {"ids": uuid_array(contact_ids), "tenant": tenant, "now": now}
    return connection.execute(_ARCHIVE_CLAIMED, values).rowcount


def givers(connection: sa.Connection, contact_ids: Collection[UUID], *, tenant: str) -> list[UUID]:
    """The contacts whose records these are to take over."""
    return list(connection.execute(_GIVERS, {"ids": uuid_array(contact_ids), "tenant": tenant}).scalars())


def merged_into(connection: sa.Connection, contact_ids: Collection[UUID], *, tenant: str) -> list[UUID]:
    """The contacts that these have taken in: the records that they had were the same person's."""
    merged = sa.select(contacts.c.contact_id).where(
        contacts.c.merged_into.in_(contact_ids), contacts.c.tenant == tenant
    )
    return list(connection.execute(merged).scalars())


def forget_handed_on(connection: sa.Connection, records: Collection[str], *, destination: str) -> None:
    """These records were handed on: the rows that had them remember them no more."""
    if records:
        connection.execute(_FORGET, {"records": list(records), "destination": destination})
