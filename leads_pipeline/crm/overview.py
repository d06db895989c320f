"""What status shows of destinations: what is left of each account's quota, and what is wrong with a mapping."""

from datetime import datetime

import sqlalchemy as sa

from leads_pipeline.config import Settings
from leads_pipeline.crm.mapping import destination_mapping
from leads_pipeline.crm.parking import forecast_at, limiter_of
from leads_pipeline.domain.mapping import MappingFault
from leads_pipeline.domain.quota_budget import BudgetPlan
from leads_pipeline.storage.destination_schemas import faulty_destinations


def mapping_faults(engine: sa.Engine, *, settings: Settings) -> dict[str, tuple[MappingFault, ...]]:
    """What of each destination's mapping, as leads.yaml has it now, does not fit what the destination told."""
    with engine.connect() as connection:
        faulty = faulty_destinations(connection, list(settings.destinations))
        mappings = {name: destination_mapping(connection, name, settings.destinations[name]) for name in faulty}
    return {name: found for name, mapping in mappings.items() if (found := tuple(mapping.faults()))}


def quota_plans(engine: sa.Engine, *, settings: Settings, now: datetime) -> dict[str, BudgetPlan]:
    """Each account's quota, shared out over the lanes by what they are expected to need."""
    first_of = {destination.account: name for name, destination in reversed(settings.destinations.items())}
    plans = {}
    for account, name in sorted(first_of.items()):
        forecast = forecast_at(engine, name, settings=settings, now=now)
        plans[account] = limiter_of(engine, name, settings=settings, forecast=forecast).plan(forecast())
    return plans
