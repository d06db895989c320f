"""Whether a request may go out now: the limiter's decision.

Pure. Add a kind of limit here. Keep out: the row that remembers (``limiter_state``), and what answers teach
(``answers``).
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

from leads_pipeline.config import DailyLimit, RequestLimits
from leads_pipeline.domain.delivery import Unit
from leads_pipeline.domain.quota_budget import (
    FORECAST_SECONDS,
    NO_FORECAST,
    Budget,
    Forecast,
    lane_allowance,
    until_next_part,
)
from leads_pipeline.outbound.foreign_use import in_window
from leads_pipeline.outbound.grants import (
    ANY_REQUEST,
    EXPIRES_AFTER,
    IN_FLIGHT_WAIT_SECONDS,
    MARGIN,
    Ask,
    Grant,
    Wait,
    WaitReason,
)
from leads_pipeline.outbound.limiter_state import (
    Day,
    LimiterState,
    SlotLog,
    UnderWay,
    WindowKey,
    instant_of,
    milliseconds,
)
from leads_pipeline.outbound.windows import (
    DAY_SECONDS,
    Window,
    costs_of,
    slot_ms,
    window_budget,
    windows_of,
    with_new_windows,
)

# A day that is spent by what answers say, and not by our own count, is asked about so often.
_DAY_PROBE_SECONDS = 900.0


def decide(
    state: LimiterState,
    *,
    now: datetime,
    limits: RequestLimits,
    ask: Ask = ANY_REQUEST,
    forecast: Forecast = NO_FORECAST,
    margin: timedelta = MARGIN,
    spread: bool = False,
    expires_after: timedelta = EXPIRES_AFTER,
) -> tuple[Grant | Wait, LimiterState]:
    """Whether a request may go out at ``now``, and what the row is to remember.

    Logs of windows that ``limits`` does not name are kept, because during a roll-out another process may name them.

    Raises:
        ConfigError: the request costs more than a window holds, so it could never go out.
    """
    stamp, margin_ms = milliseconds(now), round(margin.total_seconds() * 1000)
    state = replace(state, day=day_of(state, now=now, limits=limits), logs=_recent(state, limits, stamp, margin_ms))
    windows = [
        Window(key, window, state, ask=ask, limits=limits, stamp=stamp, margin_ms=margin_ms, forecast=forecast)
        for key, window in windows_of(limits, ask.endpoint_class)
        if ask.cost.get(key.unit, 0) > 0
    ]
    waits = [
        *_pauses(state, ask, now=now),
        *_day_waits(state, ask, now=now, limits=limits, forecast=forecast),
        *(wait for window in windows if (wait := window.wait(now=now, spread=spread)) is not None),
        *_in_flight_waits(state, ask, limits=limits, stamp=stamp),
    ]
    if waits:
        return max(waits, key=lambda wait: wait.seconds), state
    costs = costs_of(ask, state.logs, limits=limits)
    logs = {
        key: log.plus(stamp, costs[key], slot_ms=slot_ms(key)) if key in costs else log
        for key, log in state.logs.items()
    }
    day = state.day
    if limits.daily is not None and day is not None:
        cost = ask.cost.get(Unit.REQUESTS, 0)
        probes = cost > _day_budget(day, limits.daily, now=now).left
        day = replace(day, used=day.used + cost, read_at=stamp if probes else day.read_at)
    in_flight = {grant_id: item for grant_id, item in state.in_flight.items() if item.expires_at > stamp}
    grant_id = _unused_id(stamp, in_flight)
    if _shared_in_flight(limits, ask.endpoint_class):
        in_flight[grant_id] = UnderWay(stamp + round(expires_after.total_seconds() * 1000), ask.endpoint_class)
    foreign = {**state.foreign, **{window.key: probe for window in windows if (probe := window.probe()) is not None}}
    grant = Grant(
        stamp,
        grant_id,
        ask,
        counted={window.key: window.counted for window in windows},
        counted_today=day.used if day else 0,
    )
    return grant, replace(state, logs=logs, day=day, in_flight=in_flight, foreign=foreign)


def budgets(state: LimiterState, *, now: datetime, limits: RequestLimits, ask: Ask = ANY_REQUEST) -> list[Budget]:
    """The account's day, and its windows of 24 hours, as the request would find them."""
    found = []
    day = day_of(state, now=now, limits=limits)
    if limits.daily is not None and day is not None:
        found.append(_day_budget(day, limits.daily, now=now))
    stamp = milliseconds(now)
    for key, window in windows_of(limits, ask.endpoint_class):
        if window.seconds >= DAY_SECONDS:
            log = state.logs.get(key, SlotLog()).since(stamp - key.seconds * 1000, now=stamp)
            use = in_window(state.foreign, key, most=window.most, now_ms=stamp)
            found.append(window_budget(key, window, log, use))
    return found


def day_of(state: LimiterState, *, now: datetime, limits: RequestLimits) -> Day | None:
    """The account's day at ``now``: as remembered, or a new one.

    When the time zone has been changed, what was used of a day that is not over yet counts in the new zone's day. When
    the limit has been changed, what answers said before may be of another contract.
    """
    day = state.day
    if limits.daily is None:
        return day
    name = day_name(now, limits.daily)
    if day is None:
        return Day(name)
    if day.limit not in (None, limits.daily.requests):
        day = Day(day.name, day.used)
    if day.name == name:
        return day
    zone = day.name.partition(" ")[2]
    before = DailyLimit(requests=1, time_zone=zone)
    if zone != limits.daily.time_zone and day_name(now, before) == day.name:
        return replace(day, name=name)
    return Day(name)


def day_name(now: datetime, daily: DailyLimit) -> str:
    """``2026-01-15 Europe/Vienna``."""
    return f"{now.astimezone(daily.zone).date().isoformat()} {daily.time_zone}"


def next_midnight(now: datetime, daily: DailyLimit) -> datetime:
    """When the account's day ends; days of 23 and 25 hours included."""
    local = now.astimezone(daily.zone)
    return datetime.combine(local.date() + timedelta(days=1), time(), daily.zone).astimezone(now.tzinfo)


def _recent(state: LimiterState, limits: RequestLimits, stamp: int, margin_ms: int) -> dict[WindowKey, SlotLog]:
    logs = with_new_windows(state, limits)
    return {key: log.since(stamp - key.seconds * 1000 - margin_ms, now=stamp) for key, log in logs.items()}


def _pauses(state: LimiterState, ask: Ask, *, now: datetime) -> list[Wait]:
    ends = [state.paused_until] if state.paused_until is not None else []
    if ask.endpoint_class in state.class_pauses:
        ends.append(instant_of(state.class_pauses[ask.endpoint_class]))
    return [Wait((end - now).total_seconds(), WaitReason.PAUSED) for end in ends if end > now]


def _day_waits(
    state: LimiterState, ask: Ask, *, now: datetime, limits: RequestLimits, forecast: Forecast
) -> list[Wait]:
    cost = ask.cost.get(Unit.REQUESTS, 0)
    if limits.daily is None or state.day is None or cost == 0:
        return []
    budget = _day_budget(state.day, limits.daily, now=now)
    resets_at = next_midnight(now, limits.daily)
    left = (resets_at - now).total_seconds()
    if cost > limits.daily.requests - state.day.used:
        return [Wait(left, WaitReason.DAILY, resets_at)]
    if cost > budget.left:  # it is answers that say so: one request finds out whether it still holds
        seconds = min(left, (state.day.read_at - milliseconds(now)) / 1000 + _DAY_PROBE_SECONDS)
        return [Wait(seconds, WaitReason.DAILY, now + timedelta(seconds=seconds))] if seconds > 0 else []
    # The reserve is let go of by parts of the day: then it is worth asking again.
    seconds = left * until_next_part(budget)
    if cost > lane_allowance(ask.lane, budget, share=limits.reserve):
        return [Wait(seconds, WaitReason.RESERVE, resets_at)]
    if cost > lane_allowance(ask.lane, budget, share=limits.reserve, forecast=forecast):
        return [Wait(min(seconds, FORECAST_SECONDS), WaitReason.RESERVE, resets_at)]
    return []


def _in_flight_waits(state: LimiterState, ask: Ask, *, limits: RequestLimits, stamp: int) -> list[Wait]:
    under_way = [item for item in state.in_flight.values() if item.expires_at > stamp]
    own = limits.endpoint_classes.get(ask.endpoint_class)
    of_class = [item for item in under_way if item.endpoint_class == ask.endpoint_class]
    full = limits.shared_in_flight is not None and len(under_way) >= limits.shared_in_flight
    if own is not None and own.shared_in_flight is not None:
        full = full or len(of_class) >= own.shared_in_flight
    return [Wait(IN_FLIGHT_WAIT_SECONDS, WaitReason.IN_FLIGHT)] if full else []


def _shared_in_flight(limits: RequestLimits, endpoint_class: str) -> bool:
    own = limits.endpoint_classes.get(endpoint_class)
    return limits.shared_in_flight is not None or (own is not None and own.shared_in_flight is not None)


def _unused_id(stamp: int, in_flight: Mapping[str, UnderWay]) -> str:
    count = 0
    while f"{stamp}.{count}" in in_flight:
        count += 1
    return f"{stamp}.{count}"


def _day_budget(day: Day, daily: DailyLimit, *, now: datetime) -> Budget:
    resets_at = next_midnight(now, daily)
    began_at = datetime.combine(now.astimezone(daily.zone).date(), time(), daily.zone)
    share_left = (resets_at - now) / (resets_at - began_at.astimezone(UTC))
    return Budget(daily.requests, day.used, day.foreign, day.stated, resets_at, share_left)
