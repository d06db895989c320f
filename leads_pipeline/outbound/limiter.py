"""How often an account may be asked, for all processes together.

One row of ``rate_limits`` per account and class of endpoint; its lock is the queue. Under the lock the database's clock
is read (processes' clocks differ), a sliding log per window is checked, and the grant is written. Nothing sleeps while
it holds the lock: a caller is told how long to wait.

A token bucket whose burst is the limit lets through up to twice the limit in one window (measured: 199 of 100), which a
CRM with sliding windows answers with 429s; a log does not. The log is kept in slots of 1/500 of its window, so its cost
depends on neither the limit nor the history.

A window may also be one of the clock's (``by_the_clock``): some vendors count from each full minute. A limiter that is
told to ``spread`` spaces its grants evenly: after a burst, whoever comes next waits for the window's end, and that may
be the lead that matters most.

A request reaches the CRM later than its grant was stamped. ``MARGIN`` covers that for quick answers; a slow one must be
reported with ``arrived``, which moves its stamp to the answer: the request cannot have come in after that.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import DailyLimit, RequestLimits, WindowLimit

MARGIN = timedelta(milliseconds=50)
SLOTS_PER_WINDOW = 500

Log = list[tuple[int, int]]  # (Unix milliseconds of the slot's last grant, grants), oldest first


class WaitReason(StrEnum):
    """Why there is no grant."""

    WINDOW = "window"
    PAUSED = "paused"
    DAILY = "daily"


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to send one request now. ``stamp`` is the database's time of it, in Unix milliseconds."""

    stamp: int


@dataclass(frozen=True, slots=True)
class Wait:
    """No grant before ``seconds`` have passed; another process may be quicker even then."""

    seconds: float
    reason: WaitReason


@dataclass(frozen=True, slots=True)
class DailyQuotaSpent:
    """No grant before the account's next midnight."""

    seconds: float
    resets_at: datetime
    reason: WaitReason = WaitReason.DAILY


@dataclass(frozen=True, slots=True)
class LimiterState:
    """What the row remembers."""

    logs: Mapping[int, Log]  # by the window's seconds
    day: str | None = None
    used_today: int = 0
    paused_until: datetime | None = None


def decide(
    state: LimiterState, *, now: datetime, limits: RequestLimits, margin: timedelta = MARGIN, spread: bool = False
) -> tuple[Grant | Wait | DailyQuotaSpent, LimiterState]:
    """Whether a request may go out at ``now``, and what the row is to remember. Pure.

    Logs of windows that ``limits`` does not name are kept, because during a roll-out another process may name them.
    """
    stamp = _milliseconds(now)
    margin_ms = round(margin.total_seconds() * 1000)
    if state.paused_until is not None and state.paused_until > now:
        return Wait((state.paused_until - now).total_seconds(), WaitReason.PAUSED), state
    day, used = state.day, state.used_today
    if limits.daily is not None:
        today = _day(now, limits.daily)
        if today != day:
            day, used = today, 0
        if used >= limits.daily.requests:
            resets_at = next_midnight(now, limits.daily)
            return DailyQuotaSpent((resets_at - now).total_seconds(), resets_at), state
    logs = _with_new_windows(state.logs, limits.windows)
    logs = {seconds: _recent(log, seconds=seconds, stamp=stamp, margin_ms=margin_ms) for seconds, log in logs.items()}
    wait_ms = max(
        (_wait_ms(logs[window.seconds], window=window, stamp=stamp, margin_ms=margin_ms) for window in limits.windows),
        default=0,
    )
    if spread:
        wait_ms = max(wait_ms, _spacing_ms(logs, limits.windows, stamp=stamp, margin_ms=margin_ms))
    if wait_ms > 0:
        return Wait(wait_ms / 1000, WaitReason.WINDOW), state
    for seconds, log in logs.items():
        _add(log, stamp, seconds=seconds)
    return Grant(stamp), LimiterState(logs, day, used + 1, state.paused_until)


def next_midnight(now: datetime, daily: DailyLimit) -> datetime:
    """When the account's day ends; days of 23 and 25 hours included."""
    local = now.astimezone(daily.zone)
    return datetime.combine(local.date() + timedelta(days=1), time(), daily.zone).astimezone(now.tzinfo)


class Limiter:
    """The limiter of one account and class of endpoint. Safe to share between threads; holds no state of its own."""

    def __init__(
        self,
        engine: sa.Engine,
        *,
        account: str,
        limits: RequestLimits,
        endpoint_class: str = "api",
        margin: timedelta = MARGIN,
        spread: bool = False,
        clock: Clock | None = None,
    ) -> None:
        """``clock``: a simulation's, which is then asked instead of the database's."""
        self._engine = engine
        self._key = {"account": account, "endpoint_class": endpoint_class}
        self._limits = limits
        self._margin = margin
        self._spread = spread
        self._clock = clock
        self.account = account
        self.margin_seconds = margin.total_seconds()

    def acquire(self) -> Grant | Wait | DailyQuotaSpent:
        """Ask for one request. Commits at once: a grant is spent even if its holder dies."""
        with self._engine.begin() as connection:
            state, now = self._lock(connection)
            answer, state = decide(state, now=now, limits=self._limits, margin=self._margin, spread=self._spread)
            if isinstance(answer, Grant):
                self._save(connection, state)
        return answer

    def peek(self) -> Grant | Wait | DailyQuotaSpent:
        """What ``acquire`` would say. Takes no grant and no lock, so it may be wrong a moment later."""
        with self._engine.connect() as connection:
            row = connection.execute(_READ, self._key).one_or_none()
            now = row.locked_at if row else connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
            state = _state_of(row) if row else LimiterState({})
        now = self._clock.now() if self._clock else now
        return decide(state, now=now, limits=self._limits, margin=self._margin, spread=self._spread)[0]

    def arrived(self, grant: Grant) -> None:
        """Move the grant's stamp to now: call it when the answer came later than the margin."""
        self._move(grant, to_now=True)

    def give_back(self, grant: Grant) -> None:
        """Undo a grant for which nothing was sent."""
        self._move(grant, to_now=False)

    def pause(self, *, seconds: float | None = None, until_midnight: bool = False) -> datetime:
        """Let nobody ask for ``seconds``, or until the account's midnight. The longest pause wins; returns its end."""
        with self._engine.begin() as connection:
            state, now = self._lock(connection)
            until = now + timedelta(seconds=seconds or 0)
            if until_midnight:
                until = max(until, next_midnight(now, self._limits.daily or DailyLimit(requests=1)))
            if state.paused_until is not None:
                until = max(until, state.paused_until)
            self._save(connection, LimiterState(state.logs, state.day, state.used_today, until))
        return until

    def _move(self, grant: Grant, *, to_now: bool) -> None:
        with self._engine.begin() as connection:
            state, now = self._lock(connection)
            logs = _with_new_windows(state.logs, self._limits.windows)
            for seconds, log in logs.items():
                _take(log, grant.stamp, seconds=seconds)
                if to_now:
                    # Also when its slot has aged out: the CRM may have got it only now.
                    _add(log, _milliseconds(now), seconds=seconds)
            day, used = state.day, state.used_today
            if self._limits.daily is not None:
                granted_on = _day(_instant(grant.stamp), self._limits.daily)
                today = _day(now, self._limits.daily)
                if not to_now and day == granted_on:
                    used -= 1
                elif to_now and today != granted_on:
                    # It came in on one of two days, and nobody knows which: both count it.
                    day, used = today, (used if day == today else 0) + 1
            self._save(connection, LimiterState(logs, day, used, state.paused_until))

    def _lock(self, connection: sa.Connection) -> tuple[LimiterState, datetime]:
        row = connection.execute(_LOCK, self._key).one_or_none()
        if row is None:
            connection.execute(_CREATE, self._key)
            row = connection.execute(_LOCK, self._key).one()
        return _state_of(row), self._clock.now() if self._clock else row.locked_at

    def _save(self, connection: sa.Connection, state: LimiterState) -> None:
        values = {
            "grants": json.dumps({str(seconds): log for seconds, log in state.logs.items() if log}),
            "daily": json.dumps({"day": state.day, "used": state.used_today} if state.day else {}),
            "paused_until": state.paused_until,
        }
        connection.execute(_SAVE, self._key | values)


# The clock is read outside the CTE: `for update` may wait, and inside it the clock would show the time before the wait.
_LOCK = sa.text(
    """
    with locked as materialized (
        select grants, daily, paused_until from rate_limits
        where account = :account and endpoint_class = :endpoint_class
        for update
    )
    select grants, daily, paused_until, clock_timestamp() as locked_at from locked
    """
)
_READ = sa.text(
    """
    select grants, daily, paused_until, clock_timestamp() as locked_at from rate_limits
    where account = :account and endpoint_class = :endpoint_class
    """
)
_CREATE = sa.text(
    """
    insert into rate_limits (account, endpoint_class, grants, daily, updated_at)
    values (:account, :endpoint_class, '{}', '{}', clock_timestamp())
    on conflict (account, endpoint_class) do nothing
    """
)
_SAVE = sa.text(
    """
    update rate_limits
    set grants = cast(:grants as jsonb), daily = cast(:daily as jsonb), paused_until = :paused_until,
        updated_at = clock_timestamp()
    where account = :account and endpoint_class = :endpoint_class
    """
)


def _state_of(row: Any) -> LimiterState:
    logs = {int(seconds): [(ms, count) for ms, count in log] for seconds, log in row.grants.items()}
    return LimiterState(logs, row.daily.get("day"), row.daily.get("used", 0), row.paused_until)


def _milliseconds(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)


def _instant(stamp: int) -> datetime:
    return datetime.fromtimestamp(stamp / 1000, tz=UTC)


def _day(now: datetime, daily: DailyLimit) -> str:
    return f"{now.astimezone(daily.zone).date().isoformat()} {daily.time_zone}"


def _with_new_windows(logs: Mapping[int, Log], windows: tuple[WindowLimit, ...]) -> dict[int, Log]:
    """A window that was not known before starts from what the longest known one remembers."""
    known = dict(logs)
    longest: Log = known[max(known)] if known else []
    for window in windows:
        known.setdefault(window.seconds, list(longest))
    return known


def _recent(log: Log, *, seconds: int, stamp: int, margin_ms: int) -> Log:
    oldest = stamp - seconds * 1000 - margin_ms
    # A stamp of the future means that the database's clock was set back; taken as now, it blocks one window at most.
    return [(min(ms, stamp), count) for ms, count in log if ms >= oldest]


def _wait_ms(log: Log, *, window: WindowLimit, stamp: int, margin_ms: int) -> int:
    if window.by_the_clock:
        begun = (stamp - margin_ms) // (window.seconds * 1000) * window.seconds * 1000
        # What left just before the full minute may have come in just after it: it counts in both.
        used = sum(count for ms, count in log if ms >= begun - margin_ms)
        return 0 if used < window.most else begun + window.seconds * 1000 + margin_ms - stamp
    too_many = sum(count for _ms, count in log) + 1 - window.most
    if too_many <= 0:
        return 0
    for ms, count in log:
        too_many -= count
        if too_many <= 0:
            return ms + window.seconds * 1000 + margin_ms + 1 - stamp
    raise AssertionError("a log holds at least what it was counted to hold")


def _spacing_ms(logs: Mapping[int, Log], windows: tuple[WindowLimit, ...], *, stamp: int, margin_ms: int) -> int:
    """How long until the next grant of an even spacing, over the window and its margin, so that it never fills up."""
    wait = 0
    for window in windows:
        if log := logs[window.seconds]:
            wait = max(wait, log[-1][0] + -(-(window.seconds * 1000 + margin_ms + 1) // window.most) - stamp)
    return wait


def _add(log: Log, stamp: int, *, seconds: int) -> None:
    """Count one grant; slots take the time of their last grant, so that rounding makes callers wait, never hurry."""
    slot_ms = _slot_ms(seconds)
    if log and log[-1][0] // slot_ms == stamp // slot_ms:
        log[-1] = (max(log[-1][0], stamp), log[-1][1] + 1)
    else:
        log.append((stamp, 1))


def _take(log: Log, stamp: int, *, seconds: int) -> None:
    """Remove one grant from the slot that holds ``stamp``, unless it has aged out; never another's grant."""
    slot_ms = _slot_ms(seconds)
    for index, (ms, count) in enumerate(log):
        if ms // slot_ms == stamp // slot_ms:
            if count > 1:
                log[index] = (ms, count - 1)
            else:
                del log[index]
            return


def _slot_ms(seconds: int) -> int:
    return max(1, seconds * 1000 // SLOTS_PER_WINDOW)
