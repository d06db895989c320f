"""What the limiter learns from what became of a request: when it arrived, what is left for everybody, how hard to push.

Pure. Add what a vendor may say of its limits. Keep out: how an answer says it (each vendor's module).
"""

from dataclasses import replace
from datetime import datetime, timedelta

from leads_pipeline.config import DailyLimit, RequestLimits
from leads_pipeline.domain.delivery import QuotaReading, Unit
from leads_pipeline.outbound import foreign_use
from leads_pipeline.outbound.decision import day_name, day_of, next_midnight
from leads_pipeline.outbound.grants import Grant, Seen
from leads_pipeline.outbound.limiter_state import API, Day, LimiterState, SlotLog, WindowKey, instant_of, milliseconds
from leads_pipeline.outbound.windows import (
    DAY_SECONDS,
    burst_seconds,
    costs_of,
    current_scale,
    slot_ms,
    windows_of,
    with_new_windows,
)

# After a refusal that no count explains: the limit, or somebody's use of it, is not what we take it to be.
SLOWED_TO = 0.7
SLOWEST = 0.1
# Between an answer and the next request's arrival lie, beside a round trip, a grant and its margin.
ON_ITS_WAY_MS = 50
# In more than a quarter of a window others make up for what of theirs has left it. (Simulated beside a steady 30 %,
# with answers of 1 to 3 s: 855 of 1,260 used and 43 refused without this, 921 and 18 with it.)
MOST_ON_ITS_WAY = 4
# A refusal of so early a request may still be meant for the day before: the vendor's clock is not ours.
RESET_SKEW = timedelta(minutes=1)
# A quota of 24 hours on end frees bit by bit, and nobody says when.
ROLLING_RESET_WAIT = timedelta(minutes=15)


def after_answer(
    state: LimiterState, grant: Grant, seen: Seen, *, now: datetime, limits: RequestLimits
) -> LimiterState:
    """What the row remembers once a request was answered, or given up."""
    state = replace(state, in_flight={key: item for key, item in state.in_flight.items() if key != grant.grant_id})
    for reading in seen.readings:
        state = _read(state, grant, reading, now=now, limits=limits)
    if seen.late:
        state = arrived(state, grant, now=now, limits=limits)
    elif state.late_ms:
        state = replace(state, late_ms=state.late_ms * 9 // 10)
    if seen.throttled and not seen.until_reset and not _explained(seen):
        state = _slowed(state, now=now, limits=limits)
    if seen.until_reset:
        return paused(state, until=_reset(grant, now=now, limits=limits))
    if seen.pause_seconds is not None:
        until = now + timedelta(seconds=seen.pause_seconds)
        return paused(state, until=until, endpoint_class=_paused_class(grant, limits))
    return state


def arrived(state: LimiterState, grant: Grant, *, now: datetime, limits: RequestLimits) -> LimiterState:
    """The request may have come in as late as now: its stamp moves there, also when its slot has aged out."""
    state = _without(state, grant, limits=limits)
    stamp, costs = milliseconds(now), costs_of(grant.ask, state.logs, limits=limits)
    logs = {
        key: log.plus(stamp, costs[key], slot_ms=slot_ms(key)) if key in costs else log
        for key, log in state.logs.items()
    }
    day = state.day
    if limits.daily is not None and day_name(instant_of(grant.stamp), limits.daily) != day_name(now, limits.daily):
        # It came in on one of two days, and nobody knows which: both count it.
        today = day_of(state, now=now, limits=limits) or Day(day_name(now, limits.daily))
        day = replace(today, used=today.used + grant.ask.cost.get(Unit.REQUESTS, 0))
    late_ms = max(stamp - grant.stamp, state.late_ms * 9 // 10)
    return replace(state, logs=logs, day=day, late_ms=late_ms)


def given_back(state: LimiterState, grant: Grant, *, limits: RequestLimits) -> LimiterState:
    """Nothing was sent for the grant."""
    state = _without(state, grant, limits=limits)
    day = state.day
    if limits.daily is not None and day is not None and day.name == day_name(instant_of(grant.stamp), limits.daily):
        day = replace(day, used=max(0, day.used - grant.ask.cost.get(Unit.REQUESTS, 0)))
    in_flight = {key: item for key, item in state.in_flight.items() if key != grant.grant_id}
    return replace(state, day=day, in_flight=in_flight)


def paused(state: LimiterState, *, until: datetime, endpoint_class: str = API) -> LimiterState:
    """Nobody asks before ``until``; the longest pause wins."""
    if endpoint_class != API:
        end = max(milliseconds(until), state.class_pauses.get(endpoint_class, 0))
        return replace(state, class_pauses={**state.class_pauses, endpoint_class: end})
    return replace(state, paused_until=until if state.paused_until is None else max(until, state.paused_until))


def _without(state: LimiterState, grant: Grant, *, limits: RequestLimits) -> LimiterState:
    known = with_new_windows(state, limits)
    costs = costs_of(grant.ask, known, limits=limits)
    logs = {
        key: log.minus(grant.stamp, costs[key], slot_ms=slot_ms(key)) if key in costs else log
        for key, log in known.items()
    }
    return replace(state, logs=logs)


def _read(
    state: LimiterState, grant: Grant, reading: QuotaReading, *, now: datetime, limits: RequestLimits
) -> LimiterState:
    if reading.seconds is None:
        return _read_day(state, grant, reading, now=now, limits=limits)
    key = WindowKey(reading.endpoint_class, reading.unit, reading.seconds)
    most = next((window.most for known, window in windows_of(limits, reading.endpoint_class) if known == key), None)
    stamp = milliseconds(now)
    length = key.seconds * 1000
    if most is None or key not in grant.counted or stamp - grant.stamp >= length:
        return state  # of what was in a window that is over since, nothing is known to go on
    use = foreign_use.measured(
        reading,
        seconds=key.seconds,
        before=state.foreign.get(key),
        ours=grant.counted[key],
        # With what has just aged out by our stamps: it arrived later than it was stamped.
        ours_now=state.logs.get(key, SlotLog()).since(grant.stamp - length - ON_ITS_WAY_MS, now=stamp).total,
        most=most,
        on_its_way_ms=min(max(0, stamp - grant.stamp) + ON_ITS_WAY_MS, length // MOST_ON_ITS_WAY),
        now_ms=stamp,
    )
    if use is None or (use.used == 0 and use.limit >= most):  # alone: nothing to remember
        return replace(state, foreign={other: item for other, item in state.foreign.items() if other != key})
    return replace(state, foreign={**state.foreign, key: use})


def _read_day(
    state: LimiterState, grant: Grant, reading: QuotaReading, *, now: datetime, limits: RequestLimits
) -> LimiterState:
    day = day_of(state, now=now, limits=limits)
    if limits.daily is None or day is None or reading.unit is not Unit.REQUESTS:
        return state
    if day_name(instant_of(grant.stamp) - RESET_SKEW, limits.daily) != day.name:
        return state  # it may speak of the day before
    stated = limits.daily.requests if reading.limit is None else reading.limit
    used = stated - reading.remaining
    # Others are there only once more is used than all that we were granted: answers overtake each other.
    foreign = max(0, used - grant.counted_today) if day.foreign > 0 or used > day.used else 0
    read = replace(day, foreign=foreign, stated=stated, limit=limits.daily.requests)
    return state if read == day else replace(state, day=replace(read, read_at=milliseconds(now)))


def _explained(seen: Seen) -> bool:
    """Whether the refusal's own answer says which window was full: then others' use is known, and that is enough."""
    return any(reading.seconds is not None and reading.remaining <= 0 for reading in seen.readings)


def _slowed(state: LimiterState, *, now: datetime, limits: RequestLimits) -> LimiterState:
    """Less of the short windows is used, once for all refusals of the same time."""
    length = timedelta(seconds=burst_seconds(limits))
    if state.scaled_at is not None and timedelta() <= now - state.scaled_at < length:
        return state
    scale = max(SLOWEST, current_scale(state, now=now, limits=limits) * SLOWED_TO)
    return replace(state, scale=scale, scaled_at=now)


def _reset(grant: Grant, *, now: datetime, limits: RequestLimits) -> datetime:
    """Until when nobody asks after an answer that the quota is spent. A day that has ended meanwhile was meant."""
    if limits.daily is None and any(window.seconds >= DAY_SECONDS for window in limits.windows):
        return now + ROLLING_RESET_WAIT
    midnight = next_midnight(instant_of(grant.stamp) - RESET_SKEW, limits.daily or DailyLimit(requests=1))
    return max(midnight, now + RESET_SKEW)


def _paused_class(grant: Grant, limits: RequestLimits) -> str:
    """Whom a pause is for: the class of the request if that has limits of its own, else everybody."""
    return grant.ask.endpoint_class if grant.ask.endpoint_class in limits.endpoint_classes else API
