"""The limiter's words: what is asked of it, and what it answers.

Keep out: how it decides (``decision``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

from leads_pipeline.domain.delivery import ONE_REQUEST, QuotaReading, Unit
from leads_pipeline.domain.stage import Lane
from leads_pipeline.outbound.limiter_state import API, WindowKey

# How much later than its grant a request may reach the vendor without being counted wrongly.
MARGIN = timedelta(milliseconds=50)
# A request that is never reported as answered counts as under way for so long: the longest time-out, and 10 s.
EXPIRES_AFTER = timedelta(seconds=130)
# Whether another process's answer has come is asked again so often.
IN_FLIGHT_WAIT_SECONDS = 0.05


class WaitReason(StrEnum):
    """Why there is no grant."""

    WINDOW = "window"
    IN_FLIGHT = "in_flight"
    PAUSED = "paused"
    DAILY = "daily"  # the quota of the day, or of 24 hours, is spent
    RESERVE = "reserve"  # what is left of it is kept for more urgent lanes
    BUSY = "busy"  # whoever has the limiter's row does not let go of it


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. ``lane``: of the most urgent contact in it; ``None`` is kept back nothing."""

    endpoint_class: str = API
    cost: Mapping[Unit, int] = field(default_factory=lambda: ONE_REQUEST)
    lane: Lane | None = None


ANY_REQUEST = Ask()


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to send one request now.

    ``stamp`` is the database's time of it, in Unix milliseconds; ``waited_seconds`` of the database's clock had passed
    before it, since the limiter was asked. ``counted``: what of each window was ours then for certain, this included;
    ``counted_today``: of the day's requests.
    """

    stamp: int
    grant_id: str = ""
    ask: Ask = ANY_REQUEST
    waited_seconds: float = 0.0
    counted: Mapping[WindowKey, int] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    counted_today: int = field(default=0, repr=False)


@dataclass(frozen=True, slots=True)
class Wait:
    """No grant before ``seconds`` have passed; another process may be quicker even then.

    ``resets_at``: when the quota that is spent, or kept back, is whole again, or may turn out to be.
    """

    seconds: float
    reason: WaitReason
    resets_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What an answer says of the account. ``late``: it came later than the margin covers."""

    late: bool = False
    throttled: bool = False
    pause_seconds: float | None = None
    until_reset: bool = False
    readings: tuple[QuotaReading, ...] = ()
