"""A day's quota, shared out over lanes: what each may still ask for, so that urgent leads find something left.

Pure. Add how a budget is divided. Keep out: how requests are counted (``outbound.limiter``), and how many the waiting
contacts need (``storage.delivery_status``).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from leads_pipeline.domain.delivery import Unit
from leads_pipeline.domain.stage import ALL_LANES, Lane

# How many requests each lane is expected to need until the quota resets.
Forecast = Mapping[Lane, int]
NO_FORECAST: Forecast = MappingProxyType({})
# A forecast is made anew so often: whom it alone keeps waiting may find less kept back then.
FORECAST_SECONDS = 60.0

# The reserve is let go of in so many parts, so that a lane that waits for it is not told to come back every second.
PARTS_OF_A_DAY = 24


@dataclass(frozen=True, slots=True)
class Budget:
    """An account's quota of a day or of 24 hours on end, in some ``unit``, and what is used of it.

    ``foreign`` is what other applications have used, as far as the account's answers say. ``stated`` is the limit that
    they name, where it is another than ours. ``resets_at`` is ``None`` for one that rolls. ``share_left`` is how much
    of the day is still to come, from 0 to 1; of one that rolls it is 1.
    """

    limit: int
    used: int
    foreign: int = 0
    stated: int | None = None
    resets_at: datetime | None = None
    share_left: float = 1.0
    unit: Unit = Unit.REQUESTS

    @property
    def left(self) -> int:
        """What may still be asked for by us, in all lanes."""
        account = self.limit if self.stated is None else self.stated
        return max(0, min(self.limit - self.used, account - self.used - self.foreign))


@dataclass(frozen=True, slots=True)
class BudgetPlan:
    """An account's quota for status and metadata: what is left of it, and how much of that each lane may have.

    ``budget`` is the tightest one, ``None`` where nothing is limited for so long; the ``allowances`` are in its unit.
    ``paused_until`` is when the account may be asked again, if it is left alone now. ``scale`` is the share of its
    short windows that is used, less than 1 after refusals that no count explains.
    """

    budget: Budget | None
    allowances: Mapping[Lane, int]
    paused_until: datetime | None
    scale: float


def reserve(budget: Budget, share: float) -> int:
    """How many requests are kept for the real-time lane: ``share`` of the limit, less as the day goes by.

    At the reset nothing is kept back any more, so that no part of a quota is thrown away.
    """
    return math.ceil(budget.limit * share * _parts_left(budget) / PARTS_OF_A_DAY)


def until_next_part(budget: Budget) -> float:
    """How much of what is left of the day must pass, from 0 to 1, before less is kept back."""
    if budget.share_left <= 0:
        return 1.0
    return (budget.share_left - (_parts_left(budget) - 1) / PARTS_OF_A_DAY) / budget.share_left


def allowance(lane: Lane | None, *, left: int, reserved: int, forecast: Forecast = NO_FORECAST) -> int:
    """How many of the requests that are ``left`` a lane may have: without the reserve, and what is expected of others.

    Others are the more urgent lanes. ``None``, and the most urgent lane, may have all.
    """
    if lane is None or lane is ALL_LANES[0]:
        return max(0, left)
    more_urgent = ALL_LANES[: ALL_LANES.index(lane)]
    expected = sum(forecast.get(other, 0) for other in more_urgent)
    return max(0, left - max(reserved, expected))


def lane_allowance(lane: Lane | None, budget: Budget, *, share: float, forecast: Forecast = NO_FORECAST) -> int:
    """What a lane may have of a budget of which ``share`` is the reserve. A forecast speaks of requests alone."""
    known = forecast if budget.unit is Unit.REQUESTS else NO_FORECAST
    return allowance(lane, left=budget.left, reserved=reserve(budget, share), forecast=known)


def allowances(budget: Budget, *, share: float, forecast: Forecast = NO_FORECAST) -> dict[Lane, int]:
    """What each lane may have of a budget of which ``share`` is the reserve."""
    return {lane: lane_allowance(lane, budget, share=share, forecast=forecast) for lane in ALL_LANES}


def tightest(budgets: Sequence[Budget]) -> Budget:
    """The budget of which least is left; of several units, the one of which the smallest share is."""
    of_unit = {budget.unit: budget for budget in sorted(budgets, key=lambda budget: budget.left, reverse=True)}
    return min(of_unit.values(), key=lambda budget: budget.left / budget.limit)


def _parts_left(budget: Budget) -> int:
    # A part that has just begun counts; a hair of the one before it, left over by floating point, does not.
    return max(1, math.ceil(budget.share_left * PARTS_OF_A_DAY - 1e-9))
