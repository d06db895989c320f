"""Destinations that must not be asked for now, and why."""

from collections.abc import Container
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from leads_pipeline.config import Settings
from leads_pipeline.outbound.limiter import Grant, Limiter

AUTH = "auth"


@dataclass(frozen=True, slots=True)
class Parked:
    """Why a destination is left alone: auth, daily, paused, or window (the run's time was up)."""

    reason: str
    until: datetime


def parked_now(engine: sa.Engine, *, settings: Settings, now: datetime) -> dict[str, Parked]:
    """The destinations that refuse us, or whose next request is further away than a run lasts.

    Whoever starts deliveries asks this first: a run that finds everything parked would be started again and again.
    """
    with engine.connect() as connection:
        refused = parked_destinations(connection, now=now)
    parked = {name: Parked(AUTH, until) for name, until in refused.items() if name in settings.destinations}
    for name, destination in settings.destinations.items():
        answer = Limiter(engine, account=destination.account, limits=destination.limits).peek()
        if not isinstance(answer, Grant) and answer.seconds > settings.pipeline.run_seconds:
            parked.setdefault(name, Parked(answer.reason, now + timedelta(seconds=answer.seconds)))
    return parked


def open_doors(settings: Settings, *, parked: Container[str]) -> list[tuple[str, str]]:
    """Every tenant with each of its destinations that may be asked now."""
    return [
        (tenant, destination)
        for tenant, tenant_settings in settings.tenants.items()
        for destination in tenant_settings.destinations
        if destination not in parked
    ]


def park_destination(
    connection: sa.Connection, destination: str, *, account: str, until: datetime, now: datetime
) -> None:
    """Let nobody deliver to ``destination`` before ``until``: it refuses our credentials or our set-up.

    Kept beside the account's row, because another destination of the account may have a token that works.
    """
    connection.execute(_PARK, {"account": account, "endpoint_class": _PARKED + destination, "until": until, "now": now})


def parked_destinations(connection: sa.Connection, *, now: datetime) -> dict[str, datetime]:
    """The destinations that are parked at ``now``, and until when."""
    rows = connection.execute(_PARKED_NOW, {"prefix": _PARKED + "%", "now": now})
    return {row.endpoint_class.removeprefix(_PARKED): row.paused_until for row in rows}


_PARKED = "destination:"
_PARK = sa.text(
    """
    insert into rate_limits (account, endpoint_class, grants, daily, paused_until, updated_at)
    values (:account, :endpoint_class, '{}', '{}', :until, :now)
    on conflict (account, endpoint_class) do update
    set paused_until = excluded.paused_until, updated_at = excluded.updated_at
    """
)
_PARKED_NOW = sa.text(
    "select endpoint_class, paused_until from rate_limits where endpoint_class like :prefix and paused_until > :now"
)
