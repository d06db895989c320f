"""What is left of each account's quota, for status: of whom, for whom, and until when."""

from datetime import datetime

import sqlalchemy as sa

from leads_pipeline.config import Settings
from leads_pipeline.crm.parking import forecast_at, limiter_of
from leads_pipeline.domain.quota_budget import BudgetPlan


def quota_plans(engine: sa.Engine, *, settings: Settings, now: datetime) -> dict[str, BudgetPlan]:
    """Each account's quota, shared out over the lanes by what they are expected to need."""
    first_of = {destination.account: name for name, destination in reversed(settings.destinations.items())}
    plans = {}
    for account, name in sorted(first_of.items()):
        forecast = forecast_at(engine, name, settings=settings, now=now)
        plans[account] = limiter_of(engine, name, settings=settings, forecast=forecast).plan(forecast())
    return plans
