"""Windows over a limiter's logs: which of them a request counts in, and how long each keeps it waiting.

Pure. Keep out: the day's quota, pauses and requests under way (``decision``).
"""

import math
from collections.abc import Iterable
from datetime import datetime, timedelta

from leads_pipeline.config import RequestLimits, WindowLimit
from leads_pipeline.domain.delivery import Unit
from leads_pipeline.domain.quota_budget import FORECAST_SECONDS, PARTS_OF_A_DAY, Budget, Forecast, lane_allowance
from leads_pipeline.errors import ConfigError
from leads_pipeline.outbound import foreign_use
from leads_pipeline.outbound.grants import Ask, Wait, WaitReason
from leads_pipeline.outbound.limiter_state import (
    API,
    SLOTS_PER_WINDOW,
    ForeignUse,
    LimiterState,
    SlotLog,
    WindowKey,
    instant_of,
)

# Windows up to this long are for bursts: refusals make us use less of them. Longer ones are budgets.
LONGEST_BURST_SECONDS = 3_600
DAY_SECONDS = 86_400


def windows_of(limits: RequestLimits, endpoint_class: str) -> list[tuple[WindowKey, WindowLimit]]:
    """The windows that a request of a class counts in: the account's, unless the class is separate, and its own."""
    own = limits.endpoint_classes.get(endpoint_class)
    shared = () if own is not None and own.separate else limits.windows
    found = [(WindowKey(API, Unit(window.unit), window.seconds), window) for window in shared]
    if own is not None:
        found += [(WindowKey(endpoint_class, Unit(window.unit), window.seconds), window) for window in own.windows]
    return found


def costs_of(ask: Ask, keys: Iterable[WindowKey], *, limits: RequestLimits) -> dict[WindowKey, int]:
    """What the request costs in each of the windows, where it costs anything."""
    own = limits.endpoint_classes.get(ask.endpoint_class)
    classes = {ask.endpoint_class} if own is not None and own.separate else {ask.endpoint_class, API}
    return {key: cost for key in keys if key.endpoint_class in classes and (cost := ask.cost.get(key.unit, 0)) > 0}


def current_scale(state: LimiterState, *, now: datetime, limits: RequestLimits) -> float:
    """Which share of its short windows is used: a tenth more after each two windows without a refusal."""
    if state.scaled_at is None or state.scale >= 1:
        return 1.0
    passed = (now - state.scaled_at).total_seconds()
    return min(1.0, state.scale + 0.1 * math.floor(max(0.0, passed) / (2 * burst_seconds(limits))))


def burst_seconds(limits: RequestLimits) -> int:
    """The longest window up to a minute: how long a refusal is given to show its effect."""
    found = [window.seconds for window in limits.windows]
    found += [window.seconds for item in limits.endpoint_classes.values() for window in item.windows]
    return max((seconds for seconds in found if seconds <= 60), default=60)


def slot_ms(key: WindowKey) -> int:
    """How long a slot of the window's log is."""
    return max(1, key.seconds * 1000 // SLOTS_PER_WINDOW)


def with_new_windows(state: LimiterState, limits: RequestLimits) -> dict[WindowKey, SlotLog]:
    """The logs; a window that was not known before starts from what the longest of its kind remembers."""
    known = dict(state.logs)
    for endpoint_class in (API, *limits.endpoint_classes):
        for key, _window in windows_of(limits, endpoint_class):
            if key not in known:
                longest = max((other for other in state.logs if other[:2] == key[:2]), default=None)
                known[key] = SlotLog() if longest is None else state.logs[longest]
    return known


class Window:
    """One window as one request finds it."""

    def __init__(
        self,
        key: WindowKey,
        limit: WindowLimit,
        state: LimiterState,
        *,
        ask: Ask,
        limits: RequestLimits,
        stamp: int,
        margin_ms: int,
        forecast: Forecast,
    ) -> None:
        self.key = key
        self._limit = limit
        self._cost = ask.cost[key.unit]
        self._stamp, self._margin_ms = stamp, margin_ms
        self._log = state.logs[key]
        self._measured = state.foreign.get(key)
        self._late_ms = state.late_ms
        self._foreign = foreign_use.in_window(state.foreign, key, most=limit.most, now_ms=stamp)
        if self._cost > limit.most:
            raise ConfigError(
                f"a request costs {self._cost} {key.unit}, and {limit.most} are allowed in {key.seconds} s: it could "
                "never be sent; make the batches smaller, or the limit larger"
            )
        self._room = limit.most
        if key.seconds <= LONGEST_BURST_SECONDS:
            scale = current_scale(state, now=instant_of(stamp), limits=limits)
            self._room = max(self._cost, math.floor(limit.most * scale))
        # What our own log leaves, before what is known of others, and before what is kept back for other lanes.
        self._for_others = self._room if self._foreign is None else self._foreign.limit - self._foreign.used
        self._for_lane = self._without_forecast = self._room
        if key.seconds >= DAY_SECONDS:
            budget = window_budget(key, limit, self._log, self._foreign)
            share = limits.reserve
            self._for_lane = self._log.total + lane_allowance(ask.lane, budget, share=share, forecast=forecast)
            self._without_forecast = self._log.total + lane_allowance(ask.lane, budget, share=share)

    @property
    def counted(self) -> int:
        """What of it is ours with this request for certain, also as the vendor counts.

        What stays in our log only for its margin, or because its stamp was moved, may have left the vendor's window. A
        time-out moves a stamp by more than a window; it is one request, and for its sake not all others are left out.
        """
        if self._limit.by_the_clock:
            return self._used + self._cost
        length = self.key.seconds * 1000
        return self._log.after(self._stamp - length + min(self._late_ms, length // 4)) + self._cost

    def wait(self, *, now: datetime, spread: bool) -> Wait | None:
        """How long this window keeps the request waiting, if it does."""
        wait_ms = max(self._full_ms(self._room), self._others_ms())
        reason = WaitReason.WINDOW if self.key.seconds < DAY_SECONDS else WaitReason.DAILY
        if self._for_lane < self._room and wait_ms == 0:
            wait_ms, reason = self._kept_back_ms(), WaitReason.RESERVE
        if spread and self._log.times:
            spacing = -(-(self.key.seconds * 1000 + self._margin_ms + 1) // self._limit.most)
            wait_ms = max(wait_ms, self._log.times[-1] + spacing - self._stamp)
        if wait_ms <= 0:
            return None
        seconds = wait_ms / 1000
        resets_at = None if reason is WaitReason.WINDOW else now + timedelta(seconds=seconds)
        return Wait(seconds, reason, resets_at)

    def probe(self) -> ForeignUse | None:
        """What is remembered of others' use if this request goes out to find out whether it goes on."""
        old = self._measured
        if old is None or self._foreign is not None or old.used == 0:
            return None
        against = self._used + self._cost > old.limit - old.used
        return foreign_use.probing(old, against=against, seconds=self.key.seconds, now_ms=self._stamp)

    def _others_ms(self) -> int:
        if self._foreign is None or self._used + self._cost <= self._for_others:
            return 0
        forgotten = self._foreign.until - self._stamp
        return forgotten if self._cost > self._for_others else min(forgotten, self._full_ms(self._for_others))

    def _kept_back_ms(self) -> int:
        by_reserve = self._full_ms(self._without_forecast)
        return min(self._full_ms(self._for_lane), max(by_reserve, round(FORECAST_SECONDS * 1000)))

    def _full_ms(self, room: int) -> int:
        """Until as much has aged out that the request finds room."""
        if self._used + self._cost <= room:
            return 0
        length = self.key.seconds * 1000
        if self._limit.by_the_clock:
            return self._begun + length + self._margin_ms - self._stamp
        if self._cost > room:  # what is kept back leaves nothing: ask again when anything has changed
            return length // PARTS_OF_A_DAY
        return self._log.freed_at(self._used + self._cost - room) + length + self._margin_ms + 1 - self._stamp

    @property
    def _begun(self) -> int:
        length = self.key.seconds * 1000
        return (self._stamp - self._margin_ms) // length * length

    @property
    def _used(self) -> int:
        if not self._limit.by_the_clock:
            return self._log.total
        # What left just before the full minute may have come in just after it: it counts in both.
        return self._log.since(self._begun - self._margin_ms, now=self._stamp).total


def window_budget(key: WindowKey, window: WindowLimit, log: SlotLog, foreign: foreign_use.Estimate | None) -> Budget:
    """A window of 24 hours as a budget that rolls."""
    count, stated = (0, None) if foreign is None else (foreign.used, foreign.limit)
    return Budget(window.most, log.total, count, stated, unit=key.unit)
