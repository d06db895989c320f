"""What waits at the door of each stage.

A step claims inside the transaction in which it writes its results: ``claim`` deletes the rows and locks them until the
commit, so two workers cannot take the same one (``skip locked``), and a worker that dies leaves them where they were.

Rows are stamped by clocks, and a clock may be set back: what came to the door is then ahead of it and still due, as it
was never put off (``due_at <= since``). What was put off is due at ``due_at`` alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa

from leads_pipeline.domain.stage import Chunk, Lane, Stage


@dataclass(frozen=True, slots=True)
class Waiting:
    """One subject at the door of a stage: a lead, or at golden_contacts a contact.

    ``due_at``: not to be taken before, if it has something to wait for.
    """

    subject_id: UUID
    tenant: str
    lane: Lane
    revision: int
    since: datetime
    due_at: datetime | None = None


# A subject that waits already keeps its place; it becomes as urgent as its most urgent reason and takes the revision.
_ENQUEUE = sa.text(
    """
    insert into pending (stage, subject_id, tenant, lane, revision, since, due_at)
    select :stage, t.subject_id, t.tenant, t.lane, t.revision, t.since, coalesce(t.due_at, t.since)
    from jsonb_to_recordset(cast(:rows as jsonb))
        as t(
            subject_id uuid, tenant text, lane text, revision integer, since timestamptz, due_at timestamptz
        )
    order by t.subject_id
    on conflict (stage, subject_id) do update set
        revision = greatest(pending.revision, excluded.revision),
        lane = case
            when array_position(array['real_time', 'near_real_time', 'batch'], excluded.lane)
               < array_position(array['real_time', 'near_real_time', 'batch'], pending.lane)
            then excluded.lane else pending.lane end
    """
)

_CALL_BACK = sa.text(
    """
    with called as materialized (
        select stage, subject_id from pending
        where stage = :stage and subject_id = any(cast(:ids as uuid[]))
        order by subject_id
        for update skip locked
    )
    delete from pending using called where pending.stage = called.stage and pending.subject_id = called.subject_id
    """
)

# What is due by the clock, and what is ahead of a clock that was set back. Each has an index that holds it in order;
# together in one condition they would have none.
_DUE = "due_at <= :now"
_AHEAD = "due_at > :now and due_at <= since"

# One tenant, most urgent lane first, oldest first. `skip locked` is why two workers cannot both win a row; the ordered
# CTE is why two overlapping claims cannot deadlock.
_CLAIMS = tuple(
    sa.text(
        f"""
        with taken as materialized (
            select stage, subject_id from pending
            where stage = :stage and tenant = :tenant and lane = :lane and {which}
            order by due_at, subject_id
            limit :limit
            for update skip locked
        )
        delete from pending using taken
        where pending.stage = taken.stage and pending.subject_id = taken.subject_id
        returning pending.subject_id, pending.tenant, pending.lane, pending.revision, pending.since, pending.due_at
        """  # noqa: S608 - text of this module
    )
    for which in (_DUE, _AHEAD)
)


def anything_due(*, stage: str, tenant: str) -> str:
    """SQL: whether something in ``:lanes`` is due at ``:now`` at a door, both named by expressions.

    Lane by lane and by the order of an index: for any one row the planner would read the table until it meets one.
    """
    first = "\n            union all\n            ".join(
        f"(select 1 from pending where stage = {stage} and tenant = {tenant} and lane = served.lane and {which} "  # noqa: S608
        "order by due_at limit 1)"
        for which in (_DUE, _AHEAD)
    )
    return f"""exists (
        select from unnest(cast(:lanes as text[])) as served(lane)
        cross join lateral (
            {first}
        ) as first
    )"""


def enqueue(connection: sa.Connection, stage: Stage, subjects: Iterable[Waiting]) -> None:
    """Put subjects at the door of ``stage``. Repeating it changes nothing."""
    rows = [
        {
            "subject_id": str(item.subject_id),
            "tenant": item.tenant,
            "lane": item.lane,
            "revision": item.revision,
            "since": item.since.isoformat(),
            "due_at": item.due_at.isoformat() if item.due_at else None,
        }
        for item in subjects
    ]
    if rows:
        connection.execute(_ENQUEUE, {"stage": stage, "rows": msgspec.json.encode(rows).decode()})


def call_back(connection: sa.Connection, stage: Stage, subjects: Iterable[UUID]) -> None:
    """Take subjects away from the door of ``stage`` again. What a worker has claimed by now is left to it."""
    ids = [str(subject) for subject in subjects]
    if ids:
        connection.execute(_CALL_BACK, {"stage": stage, "ids": ids})


def claim(connection: sa.Connection, stage: Stage, chunk: Chunk) -> list[Waiting]:
    """Take up to ``chunk.limit`` subjects of ``chunk.tenant``, urgent lanes first, oldest first.

    They are gone when the transaction commits and back if it does not.
    """
    found: list[Waiting] = []
    for lane, statement in product(sorted(chunk.lanes, key=list(Lane).index), _CLAIMS):
        room = chunk.limit - len(found)
        if room <= 0:
            break
        rows = connection.execute(
            statement, {"stage": stage, "tenant": chunk.tenant, "lane": lane, "now": chunk.now, "limit": room}
        )
        found.extend(_waiting(r) for r in rows)
    return found


def _waiting(row: Any) -> Waiting:
    due_at = row.due_at if row.due_at > row.since else None
    return Waiting(row.subject_id, row.tenant, Lane(row.lane), row.revision, row.since, due_at)


def set_aside(connection: sa.Connection, stage: Stage, chunk: Chunk, *, until: datetime) -> UUID | None:
    """Make the first subject that ``claim`` would take due at ``until`` only. It keeps waiting, and its age.

    One that is ahead of the clock is from now on not: it would count as never put off.

    Returns its id, or ``None`` if there is none. What another worker holds is passed over, as in ``claim``.
    """
    statement = sa.text(
        """
        update pending set due_at = :until, since = least(since, :now)
        where stage = :stage and subject_id = (
            select subject_id from pending
            where stage = :stage and tenant = :tenant and lane = any(:lanes)
                and (due_at <= :now or due_at <= since)
            order by array_position(array['real_time', 'near_real_time', 'batch'], lane), due_at, subject_id
            limit 1
            for update skip locked
        )
        returning subject_id
        """
    )
    found: UUID | None = connection.execute(
        statement,
        {
            "stage": stage,
            "tenant": chunk.tenant,
            "lanes": [str(lane) for lane in chunk.lanes],
            "now": chunk.now,
            "until": until,
        },
    ).scalar()
    return found


def tenants_waiting(connection: sa.Connection, stage: Stage, *, lanes: Sequence[Lane], now: datetime) -> list[str]:
    """The tenants with something due at the door of ``stage``, by name."""
    # A walk over the index from tenant to tenant: the cost follows the number of tenants, not of waiting rows.
    statement = sa.text(
        f"""
        with recursive names as (
            (select min(tenant) as tenant from pending where stage = :stage)
            union all
            select (select min(p.tenant) from pending p where p.stage = :stage and p.tenant > names.tenant)
            from names where names.tenant is not null
        )
        select tenant from names
        where tenant is not null and {anything_due(stage=":stage", tenant="names.tenant")}
        order by tenant
        """  # noqa: S608 - text of this module
    )
    rows = connection.execute(statement, {"stage": stage, "lanes": [str(lane) for lane in lanes], "now": now})
    return [row.tenant for row in rows]
