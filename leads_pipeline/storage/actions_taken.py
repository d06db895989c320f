"""What the system has done by itself and is in force, in words: for whoever is told that something is wrong."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

_ACTIONS = sa.text(
    """
    select policy, target, action, tenant, lane, destination, cause, began_at from policy_actions
    where ended_at is null and ends_at > :now and not parameters ? 'dry_run'
        and (cast(:tenant as text) is null or tenant is null or tenant = :tenant)
    order by began_at
    """
)
# Of a rule that is idle again no state is kept: it looked, and found its condition not to hold.
_UNDECIDED = sa.text(
    """
    select s.policy, s.target from policy_states s
    where s.state <> 'cooling' or exists (
        select from policy_actions a
        where a.policy = s.policy and a.target = s.target and a.ended_at = s.since
            and a.ended_for in ('longest', 'expired')
    )
    """
)
_GATES = sa.text(
    """
    select gate, tenant, lane, coalesce(ruled_for, reason) as reason, changed_at from quality_gates
    where (case when ruling is not null and (ruled_until is null or ruled_until > :now) then ruling = 'closed'
            else closed and (until is null or until > :now) end)
        and (cast(:tenant as text) is null or tenant = :tenant)
    order by changed_at
    """
)


@dataclass(frozen=True, slots=True)
class ActionInForce:
    """An order that consumers obey now, and its cause: measure, value, limit."""

    policy: str
    target: str
    action: str
    tenant: str | None
    lane: str | None
    destination: str | None
    cause: Mapping[str, Any]
    began_at: datetime


def actions_in_force(connection: sa.Connection, *, tenant: str | None, now: datetime) -> list[ActionInForce]:
    """Actions of rules in force, the oldest first; of a tenant: also those that are about everybody."""
    rows = connection.execute(_ACTIONS, {"tenant": tenant, "now": now}).mappings()
    return [ActionInForce(**row) for row in rows]


def undecided(connection: sa.Connection) -> list[tuple[str, str]]:
    """The rules and targets of which nobody knows whether all is well again, though perhaps none acts."""
    return [(row.policy, row.target) for row in connection.execute(_UNDECIDED)]


def action_words(action: ActionInForce) -> str:
    """What it does and where: ``pause lane (tenant acme, lane batch)``."""
    places = (("tenant", action.tenant), ("lane", action.lane), ("destination", action.destination))
    where = ", ".join(f"{name} {value}" for name, value in places if value)
    words = action.action.replace("_", " ")
    return f"{words} ({where})" if where else words


def actions_taken(connection: sa.Connection, *, tenant: str | None, now: datetime) -> list[str]:
    """Actions of rules and closed gates in force that concern a tenant, or anybody; the oldest first."""
    found = [
        f"{action_words(each)}, since {each.began_at:%H:%M} UTC (rule {each.policy})"
        for each in actions_in_force(connection, tenant=tenant, now=now)
    ]
    for row in connection.execute(_GATES, {"tenant": tenant, "now": now}):
        lane = f", lane {row.lane}" if row.lane else ""
        found.append(
            f"holds back what would be sent about contacts of {row.tenant}{lane}, since {row.changed_at:%H:%M} UTC "
            f"(gate {row.gate})"
        )
    return found
