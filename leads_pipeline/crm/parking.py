"""Destinations that must not be asked for now, and why."""

from collections.abc import Container
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from leads_pipeline.config import Settings
from leads_pipeline.crm.limiter import Grant, Limiter, parked_destinations

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
