"""What persons did with dead letters, kept for good: who, when, why; names of fields and numbers, never values.

An action is written in the transaction of what it did, so that neither can be there without the other.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.storage.schema import dead_letter_actions


class Action(StrEnum):
    """What can be done with a letter."""

    FIX = "fix"
    REDRIVE = "redrive"
    DISCARD = "discard"
    DRY_RUN = "dry_run"
    TO_SANDBOX = "to_sandbox"


@dataclass(frozen=True, slots=True)
class DoneBy:
    """Who acts, when and why."""

    actor: str
    at: datetime
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ActionRow:
    """One action on one letter."""

    action: str
    actor: str
    reason: str | None
    acted_at: datetime
    details: Mapping[str, Any] = field(default_factory=dict)


# Two commands that pace the same destination must not both begin now: the second one begins behind the first.
_PACE = sa.text("select pg_advisory_xact_lock(cast(:purpose as integer), hashtext('dead_letters'))")
_LOCK_PURPOSE = 0x1EAF

# The outbox row is locked before its letter, as everywhere: whoever holds a letter holds its row. A letter that
# somebody resolved meanwhile, or whose row has moved on, is left alone. With a step (seconds), the rows of a
# destination come due one step after the other, behind those that were paced before.
_REDRIVE = sa.text(
    """
    with locked as materialized (
        select l.dead_letter_id, o.outbox_id from dead_letters l join outbox o on o.outbox_id = l.outbox_id
        where l.dead_letter_id = any(cast(:ids as uuid[])) and l.resolved_at is null and o.state = 'dead'
        order by o.outbox_id
        for update of o
    ),
    taken as materialized (
        select l.dead_letter_id, l.outbox_id, l.tenant, l.destination, l.died_at
        from locked join dead_letters l on l.dead_letter_id = locked.dead_letter_id
        where l.resolved_at is null
        for update of l
    ),
    behind as (
        select l.destination, max(o.due_at) as due_at
        from dead_letter_actions a join dead_letters l on l.dead_letter_id = a.dead_letter_id
        join outbox o on o.outbox_id = l.outbox_id
        where cast(:step as float) is not null and a.action = 'redrive' and a.details ? 'due_at'
            -- Those that still wait for their turn.
            and o.state = 'waiting' and o.due_at >= :now and o.due_at = cast(a.details ->> 'due_at' as timestamptz)
        group by l.destination
    ),
    paced as materialized (
        select t.dead_letter_id, t.outbox_id, t.tenant,
            greatest(cast(:now as timestamptz), b.due_at + make_interval(secs => coalesce(:step, 0)))
            + make_interval(secs => coalesce(:step, 0) * (
                row_number() over (partition by t.destination order by t.died_at, t.dead_letter_id) - 1)) as due_at
        from taken t left join behind b on b.destination = t.destination
    ),
    moved as (
        update outbox o set
            -- Nobody has waited for it while it was given up, nor before its turn comes.
            state = 'waiting', due_at = p.due_at, waiting_since = p.due_at, attempts = 0, failures = '{}',
            updated_at = :now,
            lane = case when cast(:step as float) is null then o.lane else 'batch' end
        from paced p where o.outbox_id = p.outbox_id
    ),
    closed as (
        update dead_letters l set resolved_at = :now, resolution = :resolution
        from paced p where l.dead_letter_id = p.dead_letter_id
    ),
    told as (
        insert into dead_letter_actions (tenant, dead_letter_id, action, actor, reason, acted_at, details)
        select tenant, dead_letter_id, 'redrive', :actor, :reason, :now,
            case when cast(:step as float) is null then '{}'
                else jsonb_build_object('due_at', due_at, 'per_second', 1 / cast(:step as float)) end
        from paced
    )
    select dead_letter_id from paced
    """
).columns(dead_letter_id=sa.Uuid())


def redrive_letters(
    connection: sa.Connection, dead_letter_ids: Sequence[UUID], *, done: DoneBy, step: timedelta | None
) -> set[UUID]:
    """Let the rows of these letters be sent again with a fresh budget; returns those that were still open.

    ``step``: not at once but one after the other, in the batch lane; each destination by itself.
    """
    if step is not None:
        connection.execute(_PACE, {"purpose": _LOCK_PURPOSE})
    rows = connection.execute(
        _REDRIVE,
        {
            "ids": [str(letter_id) for letter_id in dead_letter_ids],
            "now": done.at,
            "step": None if step is None else step.total_seconds(),
            "actor": done.actor,
            "reason": done.reason,
            "resolution": f"redriven by {done.actor}",
        },
    )
    return {row.dead_letter_id for row in rows}


def write_actions(
    connection: sa.Connection,
    letters: Iterable[tuple[UUID, str]],
    action: Action,
    *,
    done: DoneBy,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write down what was done with each ``(letter, tenant)``. ``details``: names and numbers, never values."""
    rows = [{"dead_letter_id": str(letter_id), "tenant": tenant} for letter_id, tenant in letters]
    if not rows:
        return
    connection.execute(
        sa.text(
            "insert into dead_letter_actions (tenant, dead_letter_id, action, actor, reason, acted_at, details) "
            "select t.tenant, t.dead_letter_id, :action, :actor, :reason, :at, cast(:details as jsonb) "
            "from jsonb_to_recordset(cast(:rows as jsonb)) as t(dead_letter_id uuid, tenant text)"
        ),
        {
            "rows": json.dumps(rows),
            "action": action,
            "actor": done.actor,
            "reason": done.reason,
            "at": done.at,
            "details": json.dumps(dict(details or {})),
        },
    )


def actions_of(connection: sa.Connection, dead_letter_id: UUID) -> list[ActionRow]:
    """What was done with a letter, the first action first."""
    names = [dead_letter_actions.c[name] for name in ActionRow.__dataclass_fields__]
    statement = (
        sa.select(*names)
        .where(dead_letter_actions.c.dead_letter_id == dead_letter_id)
        .order_by(dead_letter_actions.c.action_id)
    )
    return [ActionRow(**row) for row in connection.execute(statement).mappings()]
