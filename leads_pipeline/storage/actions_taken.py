"""What the system has done by itself and is in force, in words: for whoever is told that something is wrong."""

from datetime import datetime

import sqlalchemy as sa

_ACTIONS = sa.text(
    """
    select policy, action, tenant, lane, destination, began_at from policy_actions
    where ended_at is null and ends_at > :now
        and (cast(:tenant as text) is null or tenant is null or tenant = :tenant)
    order by began_at
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


def actions_taken(connection: sa.Connection, *, tenant: str | None, now: datetime) -> list[str]:
    """Actions of rules and closed gates in force that concern a tenant, or anybody; the oldest first."""
    values = {"tenant": tenant, "now": now}
    found = []
    for row in connection.execute(_ACTIONS, values):
        at = [f"{name} {value}" for name, value in (("tenant", row.tenant), ("lane", row.lane)) if value]
        at += [f"destination {row.destination}"] if row.destination else []
        where = f" at {', '.join(at)}" if at else ""
        action = str(row.action).replace("_", " ")
        found.append(f"{action}{where}, since {row.began_at:%H:%M} UTC (rule {row.policy})")
    for row in connection.execute(_GATES, values):
        lane = f", lane {row.lane}" if row.lane else ""
        found.append(
            f"holds back what would be sent about contacts of {row.tenant}{lane}, since {row.changed_at:%H:%M} UTC "
            f"(gate {row.gate})"
        )
    return found
