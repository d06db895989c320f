"""An account's quota: true sliding windows for each class of endpoints, and a day that ends at local midnight.

Only admitted requests count. Add what every vendor's limits share; what a vendor says of them stands in its package.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from leads_pipeline.crm.sandbox.options import Window
from leads_pipeline.sandbox.windows import SlidingWindow

API = "api"  # the class of endpoints that have no limits of their own


@dataclass(frozen=True, slots=True)
class Left:
    """What a window has left."""

    window: Window
    remaining: int


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a request may pass, and what the account has left afterwards.

    ``tightest``: of the windows that hold for the request, the one with the least left.
    """

    limited_as: str
    refused_by: Window | None
    day_spent: bool
    retry_after_seconds: int
    tightest: Left | None
    daily_remaining: int | None
    too_many_at_once: bool = False

    @property
    def refused(self) -> bool:
        return self.day_spent or self.refused_by is not None or self.too_many_at_once


class AccountLimits:
    """What one account allows, for everyone who uses it. A class of endpoints has windows of its own."""

    def __init__(
        self,
        classes: Mapping[str, Sequence[Window]],
        *,
        daily: int | None,
        time_zone: str,
        at_once: Mapping[str, int] | None = None,
        long_calls: Window | None = None,
    ) -> None:
        """``at_once``: how many requests may be under way, of all (``API``) and of narrower kinds.

        ``long_calls``: how many of those may have lasted for so many seconds.
        """
        self.daily = daily
        self._at_once = dict(at_once or {})
        self._under_way: Counter[str] = Counter()
        self._long_calls = long_calls
        self._since: Counter[float] = Counter()  # when those under way began
        self._windows = {
            name: [(window, SlidingWindow(window.seconds)) for window in windows] for name, windows in classes.items()
        }
        self._zone = ZoneInfo(time_zone)
        self._day: date | None = None
        self._spent_today = 0

    def admit(
        self, *, now: datetime, tick: float, limited_as: str, cost: int = 1, kind: str | None = None
    ) -> Admission:
        """Let one request pass and count it, or say which limit refuses it. A refused request costs nothing.

        ``cost``: what it takes of its windows. ``kind``: the narrower kind that it is of, if that is limited at once.
        """
        spent = self.spent_today(now)
        windows = self._windows[limited_as]
        full = [(window, held) for window, held in windows if not _has_room(window, held, tick, cost)]
        crowded = any(self._under_way[name] >= most for name, most in self._at_once.items() if name in (API, kind))
        crowded = crowded or self._has_too_many_long_calls(tick)
        # The window that opens last: when it does, all of them have room.
        refused_by, wait = max(
            ((window, held.seconds_until_free(tick)) for window, held in full), key=lambda item: item[1],
            default=(None, 0.0),
        )  # fmt: skip
        day_spent = self.daily is not None and spent >= self.daily
        if day_spent:
            refused_by, wait = None, self._seconds_until_midnight(now)
        elif refused_by is None and not crowded:
            for _, held in windows:
                for _unit in range(cost):
                    held.add(tick)
            self._spent_today += 1
        left = [
            Left(window, remaining)
            for window, held in windows
            if (remaining := _remaining(window, held, tick)) is not None
        ]
        return Admission(
            limited_as=limited_as,
            refused_by=refused_by,
            day_spent=day_spent,
            retry_after_seconds=max(1, math.ceil(wait)),
            tightest=min(left, key=lambda item: item.remaining, default=None),
            daily_remaining=None if self.daily is None else max(0, self.daily - self._spent_today),
            too_many_at_once=crowded,
        )

    def begun(self, kind: str | None, *, tick: float) -> None:
        """A request that was admitted at ``tick`` is under way; ``ended`` follows."""
        self._under_way.update(filter(None, (API, kind)))
        self._since[tick] += 1

    def ended(self, kind: str | None, *, tick: float) -> None:
        """The one that began at ``tick`` is over."""
        self._under_way.subtract(filter(None, (API, kind)))
        self._since[tick] -= 1
        self._since = +self._since

    def left(self, limited_as: str, *, tick: float) -> list[tuple[Window, int | None]]:
        """What each window of a class has left, in their order; ``None`` where there is no limit."""
        return [(window, _remaining(window, held, tick)) for window, held in self._windows[limited_as]]

    def peaks(self, limited_as: str) -> list[int]:
        """The most that each window of a class ever held, in their order."""
        return [held.peak for _, held in self._windows[limited_as]]

    def spent_today(self, now: datetime) -> int:
        """Requests admitted since the last midnight of the account's time zone."""
        today = now.astimezone(self._zone).date()
        if today != self._day:
            self._day, self._spent_today = today, 0
        return self._spent_today

    def _has_too_many_long_calls(self, tick: float) -> bool:
        if self._long_calls is None or self._long_calls.most is None:
            return False
        lasting = sum(count for since, count in self._since.items() if tick - since >= self._long_calls.seconds)
        return lasting >= self._long_calls.most

    def _seconds_until_midnight(self, now: datetime) -> float:
        tomorrow = now.astimezone(self._zone).date() + timedelta(days=1)
        midnight = datetime.combine(tomorrow, time.min, tzinfo=self._zone)
        return midnight.timestamp() - now.timestamp()


def _has_room(window: Window, held: SlidingWindow, tick: float, cost: int) -> bool:
    remaining = _remaining(window, held, tick)
    return remaining is None or remaining >= cost


def _remaining(window: Window, held: SlidingWindow, tick: float) -> int | None:
    return None if window.most is None else max(0, window.most - held.held(tick))
