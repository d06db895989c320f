"""Where rules stand, what they have ordered and why, and which an operator has put aside.

An order and the decision for it are one row, written in one transaction with the rule's state: no crash comes between
them. Only what is not idle has a state. Keep out: when a rule goes on (``domain.policies``), reading orders
(``orders``).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.policies import Ending, PolicyState, Standing

# One engine at a time looks at rules: a number of ours, taken for a transaction.
_LOCK = 7_006_001


@dataclass(frozen=True, slots=True)
class OpenAction:
    """What a rule has ordered and not ended."""

    action_id: UUID
    target: str
    action: str
    tenant: str | None
    lane: str | None
    destination: str | None
    parameters: Mapping[str, Any]
    began_at: datetime
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class RuleAtTarget:
    """Where a rule stands at one target, and its open action, if it acts."""

    target: str
    standing: Standing
    value: float | None
    action: OpenAction | None


@dataclass(frozen=True, slots=True)
class Action:
    """One line of history."""

    action_id: UUID
    policy: str
    target: str
    action: str
    tenant: str | None
    lane: str | None
    destination: str | None
    parameters: Mapping[str, Any]
    cause: Mapping[str, Any]
    runner_id: str
    began_at: datetime
    ends_at: datetime
    ended_at: datetime | None
    ended_for: str | None
    ended_by: str | None

    @property
    def is_dry(self) -> bool:
        """Whether nobody obeyed it."""
        return "dry_run" in self.parameters


@dataclass(frozen=True, slots=True)
class Pause:
    """A rule that an operator has put aside. ``until`` of ``None``: until it is resumed."""

    policy: str
    paused_at: datetime
    until: datetime | None
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class NewAction:
    """What a rule orders."""

    policy: str
    target: str
    action: str
    tenant: str | None
    lane: str | None
    destination: str | None
    runner_id: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    cause: Mapping[str, Any] = field(default_factory=dict)


_STATES = sa.text(
    """
    select s.target, s.state, s.since, s.evaluated_at, s.value,
        a.action_id, a.action, a.tenant, a.lane, a.destination, a.parameters, a.began_at, a.ends_at
    from policy_states s
    left join policy_actions a on a.policy = s.policy and a.target = s.target and a.ended_at is null
    where s.policy = :policy
    order by s.target
    """
)

_WRITE_STATE = sa.text(
    """
    insert into policy_states (policy, target, state, since, evaluated_at, value, action_id)
    values (:policy, :target, :state, :since, :evaluated_at, :value, :action_id)
    on conflict (policy, target) do update set state = excluded.state, since = excluded.since,
        evaluated_at = excluded.evaluated_at, value = excluded.value, action_id = excluded.action_id
    """
)

_BEGIN = sa.text(
    """
    insert into policy_actions (action_id, policy, target, action, tenant, lane, destination, parameters, cause,
        runner_id, began_at, ends_at)
    values (:action_id, :policy, :target, :action, :tenant, :lane, :destination, cast(:parameters as jsonb),
        cast(:cause as jsonb), :runner_id, :began_at, :ends_at)
    """
)

_END = """
    update policy_actions set ended_at = least(:now, ends_at), ended_for = :ended_for, ended_by = :ended_by,
        cause = cause || cast(:more as jsonb)
    where ended_at is null and {which}
    returning action_id, target
    """


def alone(connection: sa.Connection) -> bool:
    """Whether this transaction is the only one that looks at rules; if not, another engine is at it."""
    taken: bool = connection.execute(sa.text("select pg_try_advisory_xact_lock(:key)"), {"key": _LOCK}).scalar_one()
    return taken


def read_states(connection: sa.Connection, policy: str) -> dict[str, RuleAtTarget]:
    """Where a rule stands at each target at which it is not idle."""
    found: dict[str, RuleAtTarget] = {}
    for row in connection.execute(_STATES, {"policy": policy}):
        action = None
        if row.action_id is not None:
            action = OpenAction(
                row.action_id, row.target, row.action, row.tenant, row.lane, row.destination, row.parameters,
                row.began_at, row.ends_at,
            )  # fmt: skip
        standing = Standing(PolicyState(row.state), row.since, row.evaluated_at, action.began_at if action else None)
        found[row.target] = RuleAtTarget(row.target, standing, row.value, action)
    return found


def write_state(
    connection: sa.Connection,
    policy: str,
    target: str,
    standing: Standing,
    *,
    value: float | None,
    action_id: UUID | None,
) -> None:
    """Remember where a rule stands; of one that is idle nothing is remembered."""
    if standing.state is PolicyState.IDLE:
        forget_state(connection, policy, target)
        return
    values = {
        "policy": policy,
        "target": target,
        "state": standing.state,
        "since": standing.since,
        "evaluated_at": standing.seen_at,
        "value": value,
        "action_id": action_id,
    }
    connection.execute(_WRITE_STATE, values)


def forget_state(connection: sa.Connection, policy: str, target: str) -> None:
    """Let a rule begin anew at a target."""
    connection.execute(
        sa.text("delete from policy_states where policy = :policy and target = :target"),
        {"policy": policy, "target": target},
    )


def begin_action(
    connection: sa.Connection, action: NewAction, *, action_id: UUID, now: datetime, ends_at: datetime
) -> None:
    """Order something until ``ends_at``."""
    values = {
        "action_id": action_id,
        "policy": action.policy,
        "target": action.target,
        "action": action.action,
        "tenant": action.tenant,
        "lane": action.lane,
        "destination": action.destination,
        "parameters": json.dumps(dict(action.parameters)),
        "cause": json.dumps(dict(action.cause)),
        "runner_id": action.runner_id,
        "began_at": now,
        "ends_at": ends_at,
    }
    connection.execute(_BEGIN, values)


def renew_action(connection: sa.Connection, action_id: UUID, *, ends_at: datetime) -> None:
    """Let an order stand for longer."""
    connection.execute(
        sa.text("update policy_actions set ends_at = :ends_at where action_id = :action_id and ended_at is null"),
        {"action_id": action_id, "ends_at": ends_at},
    )


def end_action(
    connection: sa.Connection, action_id: UUID, *, ending: Ending, ended_by: str, value: float | None, now: datetime
) -> None:
    """End an order; one that had run out already ended then."""
    connection.execute(
        sa.text(_END.format(which="action_id = :action_id")),
        {"action_id": action_id, **_ending(ending, ended_by, value, now)},
    )


def end_rule(connection: sa.Connection, policy: str, *, ending: Ending, ended_by: str, now: datetime) -> list[str]:
    """End all that a rule has ordered and forget where it stood. Answers the targets at which it acted."""
    connection.execute(sa.text("delete from policy_states where policy = :policy"), {"policy": policy})
    rows = connection.execute(
        sa.text(_END.format(which="policy = :policy")), {"policy": policy, **_ending(ending, ended_by, None, now)}
    )
    return sorted(row.target for row in rows)


def rules_with_traces(connection: sa.Connection) -> set[str]:
    """The rules of which a state or an open order is kept, whether leads.yaml has them or not."""
    rows = connection.execute(
        sa.text("select policy from policy_states union select policy from policy_actions where ended_at is null")
    )
    return set(rows.scalars())


def pauses_in_force(connection: sa.Connection, *, now: datetime) -> dict[str, Pause]:
    """The rules that are put aside now."""
    rows = connection.execute(
        sa.text(
            "select policy, paused_at, until, actor, reason from policy_pauses "
            "where until is null or until > :now order by policy"
        ),
        {"now": now},
    )
    return {row.policy: Pause(**row._mapping) for row in rows}


def pause_rule(connection: sa.Connection, pause: Pause) -> list[str]:
    """Put a rule aside and end what it has ordered, at once. Answers the targets at which it acted."""
    connection.execute(
        sa.text(
            "insert into policy_pauses (policy, paused_at, until, actor, reason) "
            "values (:policy, :paused_at, :until, :actor, :reason) "
            "on conflict (policy) do update set paused_at = excluded.paused_at, until = excluded.until, "
            "actor = excluded.actor, reason = excluded.reason"
        ),
        {
            "policy": pause.policy,
            "paused_at": pause.paused_at,
            "until": pause.until,
            "actor": pause.actor,
            "reason": pause.reason,
        },
    )
    return end_rule(connection, pause.policy, ending=Ending.PAUSED, ended_by=pause.actor, now=pause.paused_at)


def resume_rule(connection: sa.Connection, policy: str) -> bool:
    """Let a rule be looked at again. Says whether it was put aside."""
    return (
        connection.execute(sa.text("delete from policy_pauses where policy = :policy"), {"policy": policy}).rowcount > 0
    )


def find_actions(
    connection: sa.Connection,
    *,
    since: datetime | None = None,
    policy: str | None = None,
    is_open: bool = False,
    limit: int = 100,
) -> list[Action]:
    """What rules did, the latest first: what began after ``since`` or had not ended by then."""
    rows = connection.execute(
        sa.text(
            """
            select action_id, policy, target, action, tenant, lane, destination, parameters, cause, runner_id,
                began_at, ends_at, ended_at, ended_for, ended_by
            from policy_actions
            where (cast(:since as timestamptz) is null or began_at >= :since or ended_at is null or ended_at > :since)
                and (cast(:policy as text) is null or policy = :policy)
                and (not :is_open or ended_at is null)
            order by began_at desc, action_id desc
            limit :limit
            """
        ),
        {"since": since, "policy": policy, "is_open": is_open, "limit": limit},
    )
    return [Action(**row._mapping) for row in rows]


def find_action(connection: sa.Connection, action_id: UUID) -> Action | None:
    """One action, or ``None``."""
    row = connection.execute(
        sa.text(
            "select action_id, policy, target, action, tenant, lane, destination, parameters, cause, runner_id, "
            "began_at, ends_at, ended_at, ended_for, ended_by from policy_actions where action_id = :action_id"
        ),
        {"action_id": action_id},
    ).one_or_none()
    return None if row is None else Action(**row._mapping)


def prune_actions(connection: sa.Connection, *, ended_before: datetime, limit: int = 5_000) -> int:
    """Forget what ended long ago; returns how many."""
    return connection.execute(
        sa.text(
            "delete from policy_actions where action_id in (select action_id from policy_actions "
            "where began_at < :before and ended_at < :before order by began_at limit :limit)"
        ),
        {"before": ended_before, "limit": limit},
    ).rowcount


def _ending(ending: Ending, ended_by: str, value: float | None, now: datetime) -> dict[str, Any]:
    more = {} if value is None else {"ended_value": value}
    return {"now": now, "ended_for": ending, "ended_by": ended_by, "more": json.dumps(more)}
