"""How full the buffer is, and which leads it still takes.

The fill is the worst of three: leads that wait, age of the oldest, free disk; 1.0 is the bound. On the way to it the
less urgent is held back first, so that what is left of the room is the urgent leads'. Measuring is
``buffer.bounds``'s; what a refused sender is told, the door's.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from leads_pipeline.domain.stage import Lane

# From here on imports slow down, in proportion: to no rows at all where the batch lane closes.
IMPORTS_SLOW_FROM = 0.75
BATCH_REFUSED_FROM = 0.90
NEAR_REAL_TIME_REFUSED_FROM = 0.97
REAL_TIME_REFUSED_FROM = 1.0  # the bound itself
# A level ends only so far below its threshold: a buffer that is moved and filled at one rate would open and close the
# lane with every measurement, and each opening lets a herd in.
HYSTERESIS = 0.02
# An import goes no slower than this share of its speed before it stops: a pause of minutes looks like a hang.
_LEAST_SPEED = 0.05


class Level(StrEnum):
    """What the fill means, the mildest first."""

    NORMAL = "normal"
    SLOW = "slow"  # imports slow down
    BATCH_REFUSED = "batch_refused"
    NEAR_REAL_TIME_REFUSED = "near_real_time_refused"
    REAL_TIME_REFUSED = "real_time_refused"  # nothing is taken

    @property
    def severity(self) -> int:
        """0 for normal, 4 where nothing is taken."""
        return _LEVELS.index(self)

    @property
    def refused(self) -> frozenset[Lane]:
        """The lanes that are closed. The less urgent are closed whenever the more urgent are."""
        return _REFUSED[self]


_LEVELS = tuple(Level)
_BEGINS_AT: dict[Level, float] = {
    Level.NORMAL: 0.0,
    Level.SLOW: IMPORTS_SLOW_FROM,
    Level.BATCH_REFUSED: BATCH_REFUSED_FROM,
    Level.NEAR_REAL_TIME_REFUSED: NEAR_REAL_TIME_REFUSED_FROM,
    Level.REAL_TIME_REFUSED: REAL_TIME_REFUSED_FROM,
}
_REFUSED: dict[Level, frozenset[Lane]] = {
    Level.NORMAL: frozenset(),
    Level.SLOW: frozenset(),
    Level.BATCH_REFUSED: frozenset({Lane.BATCH}),
    Level.NEAR_REAL_TIME_REFUSED: frozenset({Lane.BATCH, Lane.NEAR_REAL_TIME}),
    Level.REAL_TIME_REFUSED: frozenset(Lane),
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may wait. ``min_free_disk_bytes`` 0: the disk is not watched."""

    max_leads: int
    max_age: timedelta
    min_free_disk_bytes: int


@dataclass(frozen=True, slots=True)
class Fill:
    """How near each bound is; 1.0 is at it, and beyond it is more."""

    leads: float
    age: float
    disk: float

    @property
    def worst(self) -> float:
        """What decides."""
        return max(self.leads, self.age, self.disk)


def fill_of(
    *, waiting: int, oldest_received_at: datetime | None, free_disk_bytes: int | None, bounds: Bounds, now: datetime
) -> Fill:
    """How full a buffer with so much in it is. ``None``: nothing waits, or the disk is not known.

    The disk's share is the room that must be left ÷ the room that is left: 0.5 where twice as much is free as must be,
    and it needs no knowledge of how large the disk is or who else fills it.
    """
    age = timedelta(0) if oldest_received_at is None else max(timedelta(0), now - oldest_received_at)
    disk = 0.0
    if free_disk_bytes is not None and bounds.min_free_disk_bytes:
        disk = bounds.min_free_disk_bytes / max(1, free_disk_bytes)
    return Fill(leads=waiting / bounds.max_leads, age=age / bounds.max_age, disk=disk)


def level_after(before: Level, fill: float) -> Level:
    """The level at this fill. It rises at once, and falls when the fill is ``HYSTERESIS`` below where it began."""
    reached = _highest(at_most=fill)
    held = _highest(at_most=fill + HYSTERESIS)
    return max(reached, min(held, before, key=_severity), key=_severity)


def import_speed(fill: float, level: Level) -> float:
    """The share of its full speed that an import may have: 1.0 below ``IMPORTS_SLOW_FROM``, 0.0 while batch is refused.

    In between it falls in proportion.
    """
    if level.refused:
        return 0.0
    share = (BATCH_REFUSED_FROM - fill) / (BATCH_REFUSED_FROM - IMPORTS_SLOW_FROM)
    return min(1.0, max(_LEAST_SPEED, share))


def oldest(instants: Iterable[datetime]) -> datetime | None:
    """The first of them, or ``None`` if there are none."""
    return min(instants, default=None)


def _highest(*, at_most: float) -> Level:
    return max((level for level in Level if _BEGINS_AT[level] <= at_most), key=_severity, default=Level.NORMAL)


def _severity(level: Level) -> int:
    return level.severity
