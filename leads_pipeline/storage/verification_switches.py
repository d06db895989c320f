"""Tiers that are switched down: by an operator, or by the policy engine, for a time or until it is taken back."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from leads_pipeline.errors import LeadsError, NotFound


@dataclass(frozen=True, slots=True)
class Switch:
    """A tier whose leads are treated as ``down_to``'s. ``until`` of ``None``: until somebody takes it back."""

    switch_id: int
    tier: str
    down_to: str
    actor: str
    reason: str
    since: datetime
    until: datetime | None


_ACTIVE = sa.text(
    """
    select switch_id, tier, down_to, actor, reason, since, until from verification_switches
    where ended_at is null and (until is null or until > :now)
    order by switch_id
    """
)


def active_switches(connection: sa.Connection, *, now: datetime) -> list[Switch]:
    """The switches in force, the oldest first; the newest of a tier holds."""
    return [Switch(**row) for row in connection.execute(_ACTIVE, {"now": now}).mappings()]


def tiers_in_force(tiers: Iterable[str], switches: Iterable[Switch]) -> dict[str, str]:
    """For each tier, as which it is treated now. ``tiers`` most thorough first, as in leads.yaml."""
    order = list(tiers)
    down = {switch.tier: switch.down_to for switch in switches}
    found: dict[str, str] = {}
    for tier in order:
        now = tier
        # Only ever towards a later tier, so this ends; a switch that leads.yaml does not know any more is passed over.
        while now in down and down[now] in order and order.index(down[now]) > order.index(now):
            now = down[now]
        found[tier] = now
    return found


def switch_down(
    connection: sa.Connection,
    tier: str,
    *,
    down_to: str,
    tiers: Mapping[str, object],
    actor: str,
    reason: str,
    until: datetime | None,
    now: datetime,
) -> Switch:
    """Switch a tier down. An earlier switch of the tier ends.

    Raises:
        LeadsError: there is no such tier, or ``down_to`` is not a less thorough one.
    """
    order = list(tiers)
    for name in (tier, down_to):
        require_tier(name, tiers)
    if order.index(down_to) <= order.index(tier):
        lower = ", ".join(order[order.index(tier) + 1 :]) or "none: it is the last"
        raise LeadsError(f"{tier!r} can only be switched down to a less thorough tier; those are: {lower}")
    if until is not None and until <= now:
        raise LeadsError(f"the switch would have ended already, at {until.isoformat()}")
    _end(connection, tier, actor=actor, now=now)
    values = {"tier": tier, "down_to": down_to, "actor": actor, "reason": reason, "since": now, "until": until}
    switch_id: int = connection.execute(
        sa.text(
            "insert into verification_switches (tier, down_to, actor, reason, since, until) "
            "values (:tier, :down_to, :actor, :reason, :since, :until) returning switch_id"
        ),
        values,
    ).scalar_one()
    return Switch(switch_id, tier, down_to, actor, reason, now, until)


def require_tier(name: str, tiers: Mapping[str, object]) -> None:
    """Refuse a name that leads.yaml gives to no tier.

    Raises:
        LeadsError: naming those that there are.
    """
    if name not in tiers:
        raise LeadsError(f"there is no tier {name!r} in leads.yaml; defined, most thorough first: {', '.join(tiers)}")


def switch_back(connection: sa.Connection, tier: str, *, actor: str, now: datetime) -> None:
    """Let a tier be itself again.

    Raises:
        NotFound: it is not switched down.
    """
    if not _end(connection, tier, actor=actor, now=now):
        raise NotFound(f"the tier {tier!r} is not switched down; `leads verification status` shows what is")


def _end(connection: sa.Connection, tier: str, *, actor: str, now: datetime) -> int:
    return connection.execute(
        sa.text(
            "update verification_switches set ended_at = :now, ended_by = :actor "
            "where tier = :tier and ended_at is null and (until is null or until > :now)"
        ),
        {"tier": tier, "actor": actor, "now": now},
    ).rowcount
