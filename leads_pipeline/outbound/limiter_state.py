"""What the row of a limiter remembers: logs of grants, the day's count, pauses, requests under way.

Add what must outlive a process. Keep out: what follows from it (``limiter``). A log is written as one line of numbers,
because the row is rewritten with each grant: 500 slots take 3 kB, as JSON lists of pairs they took 10.
"""

import json
import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import accumulate, chain, pairwise
from typing import Any, NamedTuple

import sqlalchemy as sa

from leads_pipeline.domain.delivery import Unit

API = "api"  # the class of the windows that hold for the whole account

# Nobody holds the row for longer than a commit, unless its process stands still or the network lost it.
LOCK_TIMEOUT = "10s"

# A slot takes the time of its last grant, so a window is taken to be longer by a slot at most.
SLOTS_PER_WINDOW = 500


class WindowKey(NamedTuple):
    """Which grants a log counts: of a class of endpoints, in a unit, over so many seconds."""

    endpoint_class: str
    unit: Unit
    seconds: int

    @classmethod
    def read(cls, text: str) -> "WindowKey":
        """``api/requests/10``. Rows written before units and classes were told apart say ``10``."""
        if text.isdigit():
            return cls(API, Unit.REQUESTS, int(text))
        endpoint_class, unit, seconds = text.rsplit("/", 2)
        return cls(endpoint_class, Unit(unit), int(seconds))

    def __str__(self) -> str:
        return f"{self.endpoint_class}/{self.unit}/{self.seconds}"


@dataclass(frozen=True, slots=True)
class SlotLog:
    """How much was granted when: Unix milliseconds of each slot's last grant, ascending, and how much it holds."""

    times: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()

    @property
    def total(self) -> int:
        return sum(self.counts)

    def since(self, oldest: int, *, now: int) -> "SlotLog":
        """What is not older than ``oldest``.

        A time after ``now`` means that the database's clock was set back; taken as now, it blocks one window at most.
        """
        first = next((index for index, ms in enumerate(self.times) if ms >= oldest), len(self.times))
        if self.times and self.times[-1] > now:
            return SlotLog(tuple(min(ms, now) for ms in self.times[first:]), self.counts[first:])
        return SlotLog(self.times[first:], self.counts[first:]) if first else self

    def plus(self, stamp: int, count: int, *, slot_ms: int) -> "SlotLog":
        """With ``count`` more at ``stamp``, or at its last time if that is later: callers wait then, never hurry."""
        if not self.times:
            return SlotLog((stamp,), (count,))
        if self.times[-1] // slot_ms >= stamp // slot_ms:
            latest = max(self.times[-1], stamp)
            return SlotLog((*self.times[:-1], latest), (*self.counts[:-1], self.counts[-1] + count))
        return SlotLog((*self.times, stamp), (*self.counts, count))

    def minus(self, stamp: int, count: int, *, slot_ms: int) -> "SlotLog":
        """Without ``count`` of the slot that holds ``stamp``, unless it has aged out; never another's grant."""
        for index, ms in enumerate(self.times):
            if ms // slot_ms == stamp // slot_ms:
                rest = self.counts[index] - count
                kept = ((ms,), (rest,)) if rest > 0 else ((), ())
                return SlotLog(
                    (*self.times[:index], *kept[0], *self.times[index + 1 :]),
                    (*self.counts[:index], *kept[1], *self.counts[index + 1 :]),
                )
        return self

    def after(self, oldest: int) -> int:
        """How much was granted after ``oldest``."""
        return sum(self.counts[bisect_right(self.times, oldest) :])

    def freed_at(self, too_many: int) -> int:
        """The time of the slot with whose end ``too_many`` less are counted; they must be in the log."""
        for ms, gone in zip(self.times, accumulate(self.counts), strict=True):
            if gone >= too_many:
                return ms
        raise AssertionError("a log holds at least what it was counted to hold")

    def write(self) -> str:
        """The first time and count, then for each slot the milliseconds since the one before it, and its count."""
        if not self.times:
            return ""
        gaps = chain(self.times[:1], (later - earlier for earlier, later in pairwise(self.times)))
        return ",".join(map(str, chain.from_iterable(zip(gaps, self.counts, strict=True))))

    @classmethod
    def read(cls, written: str | Iterable[Iterable[int]]) -> "SlotLog":
        """From ``write``, or from the pairs that rows held before."""
        if isinstance(written, str):
            numbers = tuple(map(int, written.split(","))) if written else ()
            return cls(tuple(accumulate(numbers[::2])), numbers[1::2])
        pairs = [tuple(pair) for pair in written]
        return cls(tuple(ms for ms, _count in pairs), tuple(count for _ms, count in pairs))


class UnderWay(NamedTuple):
    """A request that was granted and not reported as answered; forgotten at ``expires_at``, Unix milliseconds."""

    expires_at: int
    endpoint_class: str


class ForeignUse(NamedTuple):
    """What other applications use of a window, and its limit, by an answer that came at ``measured_at``.

    ``usual`` is what they have used on average; ``ahead`` what they may use while a request is on its way.
    """

    measured: int
    limit: int
    measured_at: int
    usual: float
    ahead: int

    @property
    def used(self) -> int:
        """What is left to them."""
        return max(self.measured, math.ceil(self.usual)) + self.ahead


@dataclass(frozen=True, slots=True)
class Day:
    """The account's day (``2026-01-15 UTC``), our requests in it, and what answers said of others' and of the limit.

    ``read_at``: when they last said something new, or a request was let out to ask, in Unix milliseconds; ``limit``:
    what was configured then.
    """

    name: str
    used: int = 0
    foreign: int = 0
    stated: int | None = None
    read_at: int = 0
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class LimiterState:
    """What the row remembers.

    ``scale`` is what refusals left of the short windows at ``scaled_at``; ``late_ms`` by how much stamps were moved
    lately.
    """

    logs: Mapping[WindowKey, SlotLog] = field(default_factory=dict)
    day: Day | None = None
    paused_until: datetime | None = None
    class_pauses: Mapping[str, int] = field(default_factory=dict)
    in_flight: Mapping[str, UnderWay] = field(default_factory=dict)
    foreign: Mapping[WindowKey, ForeignUse] = field(default_factory=dict)
    scale: float = 1.0
    scaled_at: datetime | None = None
    late_ms: int = 0


class LockedRow(NamedTuple):
    """A row's state, the database's time at which it was read, and how long its lock was waited for."""

    state: LimiterState
    now: datetime
    waited_seconds: float


# The clock is read outside the CTE: `for update` may wait, and inside it the clock would show the time before the wait.
# The limit on that wait is set before the lock is asked for: rows are locked after the join has found them.
_LOCK = sa.text(
    """
    with limited as materialized (select set_config('lock_timeout', :lock_timeout, true) as setting),
    locked as materialized (
        select grants, daily, paused_until, readings, in_flight, foreign_use, scale, scaled_at
        from limited, rate_limits
        where account = :account and endpoint_class = :endpoint_class and setting is not null
        for update of rate_limits
    )
    select locked.*, clock_timestamp() as locked_at,
        extract(epoch from clock_timestamp() - statement_timestamp()) as waited_seconds
    from locked
    """
)
_READ = sa.text(
    """
    select grants, daily, paused_until, readings, in_flight, foreign_use, scale, scaled_at,
        clock_timestamp() as locked_at
    from rate_limits
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
    set daily = cast(:daily as jsonb), paused_until = :paused_until, readings = cast(:readings as jsonb),
        in_flight = cast(:in_flight as jsonb), foreign_use = cast(:foreign_use as jsonb), scale = :scale,
        scaled_at = :scaled_at, updated_at = clock_timestamp()
    where account = :account and endpoint_class = :endpoint_class
    """
)
_SAVE_WITH_LOGS = sa.text(
    """
    update rate_limits
    set grants = cast(:grants as jsonb), daily = cast(:daily as jsonb), paused_until = :paused_until,
        readings = cast(:readings as jsonb), in_flight = cast(:in_flight as jsonb),
        foreign_use = cast(:foreign_use as jsonb), scale = :scale, scaled_at = :scaled_at,
        updated_at = clock_timestamp()
    where account = :account and endpoint_class = :endpoint_class
    """
)


def state_of(row: Any) -> LimiterState:
    """The state that a row of ``rate_limits`` holds."""
    daily = row.daily
    day = None
    if daily.get("day") is not None:
        read = {name: daily[name] for name in ("foreign", "stated", "read_at", "limit") if name in daily}
        day = Day(daily["day"], daily.get("used", 0), **read)
    return LimiterState(
        logs={WindowKey.read(key): SlotLog.read(log) for key, log in row.grants.items()},
        day=day,
        paused_until=row.paused_until,
        class_pauses=dict(row.readings.get("pauses", {})),
        in_flight={grant_id: UnderWay(*item) for grant_id, item in row.in_flight.items()},
        foreign={WindowKey.read(key): ForeignUse(*item) for key, item in row.foreign_use.items()},
        scale=row.scale,
        scaled_at=row.scaled_at,
        late_ms=row.readings.get("late_ms", 0),
    )


def _written(state: LimiterState) -> dict[str, Any]:
    daily: dict[str, Any] = {}
    if state.day is not None:
        daily = {"day": state.day.name, "used": state.day.used}
        if state.day.foreign or state.day.stated is not None:
            daily |= {"foreign": state.day.foreign, "stated": state.day.stated}
            daily |= {"read_at": state.day.read_at, "limit": state.day.limit}
    readings: dict[str, Any] = {"pauses": dict(state.class_pauses)} if state.class_pauses else {}
    if state.late_ms:
        readings["late_ms"] = state.late_ms
    return {
        "daily": json.dumps(daily),
        "paused_until": state.paused_until,
        "readings": json.dumps(readings),
        "in_flight": json.dumps(state.in_flight),
        "foreign_use": json.dumps({str(key): item for key, item in state.foreign.items()}),
        "scale": state.scale,
        "scaled_at": state.scaled_at,
    }


def lock(connection: sa.Connection, account: str, endpoint_class: str) -> LockedRow:
    """The row, made if there is none, locked until the transaction ends.

    Raises:
        sqlalchemy.exc.OperationalError: whoever holds it does not let go; see ``held_too_long``.
    """
    key = {"account": account, "endpoint_class": endpoint_class, "lock_timeout": LOCK_TIMEOUT}
    row = connection.execute(_LOCK, key).one_or_none()
    if row is None:
        connection.execute(_CREATE, key)
        row = connection.execute(_LOCK, key).one()
    return LockedRow(state_of(row), row.locked_at, float(row.waited_seconds))


def look(connection: sa.Connection, account: str, endpoint_class: str) -> LockedRow:
    """The row as it is, not locked."""
    row = connection.execute(_READ, {"account": account, "endpoint_class": endpoint_class}).one_or_none()
    if row is None:
        return LockedRow(LimiterState(), connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one(), 0.0)
    return LockedRow(state_of(row), row.locked_at, 0.0)


def save(
    connection: sa.Connection, account: str, endpoint_class: str, *, before: LimiterState, now: LimiterState
) -> None:
    """Write what has changed since ``before``."""
    if now == before:
        return
    values = {"account": account, "endpoint_class": endpoint_class} | _written(now)
    if now.logs == before.logs:  # the large column, which an answer mostly leaves alone
        connection.execute(_SAVE, values)
        return
    grants = json.dumps({str(key): log.write() for key, log in now.logs.items() if log.times})
    connection.execute(_SAVE_WITH_LOGS, values | {"grants": grants})


def held_too_long(error: sa.exc.OperationalError) -> bool:
    """Whether the row could not be locked in time."""
    return getattr(error.orig, "sqlstate", None) == "55P03"


def milliseconds(instant: datetime) -> int:
    """Unix milliseconds."""
    return round(instant.timestamp() * 1000)


def instant_of(stamp: int) -> datetime:
    """From Unix milliseconds."""
    return datetime.fromtimestamp(stamp / 1000, tz=UTC)
