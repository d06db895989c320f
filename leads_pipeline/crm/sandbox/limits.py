"""The account's quota: a true sliding window, a window of its own for search, and a day that ends at local midnight.

Only admitted requests count.
"""

import math
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from leads_pipeline.crm.sandbox.options import SandboxOptions
from leads_pipeline.sandbox.windows import SlidingWindow


class Policy(StrEnum):
    """Which limit refused, in HubSpot's words."""

    ROLLING = "TEN_SECONDLY_ROLLING"
    SECONDLY = "SECONDLY"
    DAILY = "DAILY"


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a request may pass, and what the account has left afterwards."""

    refused_by: Policy | None
    retry_after_seconds: int
    remaining: int | None
    daily_remaining: int | None


class AccountLimits:
    """What one account allows, for everyone who uses its token."""

    def __init__(self, options: SandboxOptions) -> None:
        self.requests = options.requests
        self.daily = options.daily
        self.search_per_second = options.search_per_second
        self.window = SlidingWindow(options.window_seconds)
        self._search = SlidingWindow(1.0)
        self._zone = ZoneInfo(options.time_zone)
        self._day: date | None = None
        self._spent_today = 0

    def admit(self, *, now: datetime, tick: float, search: bool) -> Admission:
        """Let one request pass and count it, or say which limit refuses it. A refused request costs nothing."""
        spent = self.spent_today(now)
        refused_by: Policy | None = None
        wait = 0.0
        if self.daily is not None and spent >= self.daily:
            refused_by, wait = Policy.DAILY, self._seconds_until_midnight(now)
        elif search:
            if self.search_per_second is not None and self._search.held(tick) >= self.search_per_second:
                refused_by, wait = Policy.SECONDLY, self._search.seconds_until_free(tick)
        elif self.requests is not None and self.window.held(tick) >= self.requests:
            refused_by, wait = Policy.ROLLING, self.window.seconds_until_free(tick)
        if refused_by is None:
            # Search has its own limit and stays out of the rolling one.
            (self._search if search else self.window).add(tick)
            self._spent_today += 1
        return Admission(
            refused_by=refused_by,
            retry_after_seconds=max(1, math.ceil(wait)),
            remaining=None if self.requests is None else max(0, self.requests - self.window.held(tick)),
            daily_remaining=None if self.daily is None else max(0, self.daily - self._spent_today),
        )

    def spent_today(self, now: datetime) -> int:
        """Requests admitted since the last midnight of the account's time zone."""
        today = now.astimezone(self._zone).date()
        if today != self._day:
            self._day, self._spent_today = today, 0
        return self._spent_today

    def _seconds_until_midnight(self, now: datetime) -> float:
        tomorrow = now.astimezone(self._zone).date() + timedelta(days=1)
        midnight = datetime.combine(tomorrow, time.min, tzinfo=self._zone)
        return midnight.timestamp() - now.timestamp()
