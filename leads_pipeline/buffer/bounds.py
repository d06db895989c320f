"""Measuring the buffer against its bounds, and pacing an import by them.

``BufferGauge`` keeps what was last measured; the capture service feeds it from a task of its own, commands from an
engine. What a fill means is ``domain.buffer_bounds``'s. Keep out: who is refused, and with which words.
"""

import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from leads_pipeline.buffer.port import BufferDepth, LeadBuffer
from leads_pipeline.clock import Clock
from leads_pipeline.config import Settings
from leads_pipeline.domain.buffer_bounds import Bounds, Fill, Level, fill_of, import_speed, level_after, oldest
from leads_pipeline.errors import DatabaseError
from leads_pipeline.storage.embedded import EmbeddedServer
from leads_pipeline.telemetry import get_logger

# The count costs in proportion to what waits. Measured with 1,000,000 leads of 12 tenants and lanes (PostgreSQL 18,
# 0.5 kB a lead, two shared cores): 64 ms when vacuum has been over the table, 240 ms before its first time, and 1.3 s
# when leads were just taken from all over it. Asked at most every second, and with pauses of twenty times its own
# duration, it takes a twentieth of one core of the database at most, however much waits; the level is as old as that.
MIN_PAUSE_SECONDS = 1.0
PAUSE_PER_DURATION = 20.0
# While the buffer cannot be measured the last level stands so long. Then it is normal: whether leads can be stored is
# the writer's to find out, and a level that nobody renews must not close the door for ever.
LAST_LEVEL_SECONDS = 120.0
# A measurement that waited for a database that stood still says nothing of what the next one costs. (Seen: after one
# that was frozen for a minute the next was due in twenty, and the door went by a level of long ago.)
MAX_PAUSE_SECONDS = LAST_LEVEL_SECONDS / 2
# A pause between two commits of an import is no longer than this, so that it sees early when there is room again.
MAX_IMPORT_PAUSE_SECONDS = 10.0

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Reading:
    """One measurement. ``free_disk_bytes`` is ``None`` where the disk is not watched."""

    at: datetime
    depths: tuple[BufferDepth, ...]
    free_disk_bytes: int | None
    fill: Fill
    level: Level

    @property
    def waiting(self) -> int:
        """Leads that wait, of all tenants."""
        return sum(depth.waiting for depth in self.depths)


class BufferGauge:
    """The last measurement and the level that follows from it and from the level before.

    The leads of a tenant that leads.yaml does not name count as leads; their age does not: no run takes them, and one
    left behind would close the door to everybody for good.
    """

    def __init__(self, bounds: Bounds, *, tenants: Collection[str], disk: Path | None, clock: Clock) -> None:
        self._bounds = bounds
        self._tenants = frozenset(tenants)
        self._disk = disk
        self._clock = clock
        self._measured_at: float | None = None
        self._failing = False
        self._disk_is_missed = False
        self.reading: Reading | None = None

    @property
    def level(self) -> Level:
        """What the last measurement says; normal before the first, and when the last one is too old."""
        if self.reading is None or self._measured_at is None:
            return Level.NORMAL
        if self._clock.monotonic() - self._measured_at > LAST_LEVEL_SECONDS:
            return Level.NORMAL
        return self.reading.level

    def measured(self, depths: Sequence[BufferDepth]) -> Reading:
        """Take in what waits, and look at the disk."""
        now = self._clock.now()
        free = self._free_disk_bytes()
        fill = fill_of(
            waiting=sum(depth.waiting for depth in depths),
            oldest_received_at=oldest(depth.oldest_received_at for depth in depths if depth.tenant in self._tenants),
            free_disk_bytes=free,
            bounds=self._bounds,
            now=now,
        )
        before = self.level
        self.reading = Reading(now, tuple(depths), free, fill, level_after(before, fill.worst))
        self._measured_at = self._clock.monotonic()
        if self._failing:
            get_logger(__name__).info("buffer is measured again")
            self._failing = False
        return self.reading

    def _free_disk_bytes(self) -> int | None:
        free = free_disk_bytes(self._disk)
        if self._disk is not None and free is None and not self._disk_is_missed:
            self._disk_is_missed = True
            get_logger(__name__).warning("disk cannot be watched", directory=str(self._disk))
        return free

    def failed(self, error: Exception) -> None:
        """The buffer could not be measured: the last level stands for ``LAST_LEVEL_SECONDS``. Logged once."""
        if not self._failing:
            get_logger(__name__).warning("buffer could not be measured", error_class=type(error).__name__)
            self._failing = True


def gauge_for(settings: Settings, *, database_url: str, clock: Clock) -> BufferGauge:
    """The gauge of this configuration's bounds."""
    configured = settings.buffer.bounds
    bounds = Bounds(
        max_leads=configured.max_leads,
        max_age=timedelta(hours=configured.max_age_hours),
        min_free_disk_bytes=configured.min_free_disk_bytes,
    )
    disk = disk_to_watch(settings, database_url=database_url) if configured.min_free_disk_bytes else None
    return BufferGauge(bounds, tenants=settings.tenants, disk=disk, clock=clock)


def disk_to_watch(settings: Settings, *, database_url: str) -> Path | None:
    """A directory on the disk that fills: ``bounds.disk_path``, else the embedded server's. ``None``: it is remote."""
    configured = settings.buffer.bounds.disk_path
    if configured is not None:
        return (settings.path.parent / configured).resolve()
    url = make_url(database_url)
    embedded = EmbeddedServer(settings.state_path).status()
    is_embedded = embedded.port is not None and url.port == embedded.port and url.host in _LOOPBACK
    return embedded.directory if is_embedded else None


def free_disk_bytes(directory: Path | None) -> int | None:
    """What is free for the directory's disk; ``None`` if none is watched or it cannot be asked."""
    if directory is None:
        return None
    try:
        return shutil.disk_usage(directory).free
    except OSError:
        return None


def pause_after(duration_seconds: float, *, share: int = 1) -> float:
    """Seconds until the next measurement, after one that took so long; ``share`` processes measure the same buffer."""
    return min(MAX_PAUSE_SECONDS, max(MIN_PAUSE_SECONDS, PAUSE_PER_DURATION * duration_seconds * share))


class BufferPace:
    """How fast an import may go: call ``wait`` after each commit, or ask ``seconds_to_wait`` and wait yourself.

    Below 75 % of a bound it never waits. From there the import slows down in proportion, by pausing as long as it has
    worked and more. Where the batch lane is refused (90 %), whatever lane the import's source has, it waits until there
    is room, and says so to ``on_full`` once, in a sentence for people; ``on_room`` is called when it goes on.

    ``depths`` is asked what waits, at most every second and rarer if the answer takes long; ``pace_for`` makes a pace
    from an engine and its buffer. While the buffer cannot be measured the import goes on: its next commit will fail by
    itself.
    """

    def __init__(
        self,
        depths: Callable[[], Sequence[BufferDepth]],
        gauge: BufferGauge,
        *,
        clock: Clock,
        on_full: Callable[[str], None] = lambda _why: None,
        on_room: Callable[[], None] = lambda: None,
        ordered: Callable[[], float] = lambda: 1.0,
    ) -> None:
        """``ordered``: the share of its speed that rules leave it, asked before every commit."""
        self._ordered = ordered
        self._depths = depths
        self._gauge = gauge
        self._clock = clock
        self._on_full = on_full
        self._on_room = on_room
        self._measure_at = clock.monotonic()
        self._worked_since = clock.monotonic()
        self._is_full = False

    def wait(self) -> float:
        """Return when the next commit may begin. Says how many seconds that took."""
        waited = 0.0
        while (pause := self.seconds_to_wait()) > 0:
            self._clock.sleep(pause)
            waited += pause
            self._worked_since = self._clock.monotonic()
            if not self._is_full:
                break  # slowed down, and this was the pause
        return waited

    def seconds_to_wait(self) -> float:
        """How long to wait before the next commit; 0.0 to go on at once. While there is no room: ask again after it.

        The time since the last call is taken for work, of which the pause is a multiple.
        """
        worked = self._clock.monotonic() - self._worked_since
        self._measure_if_due()
        reading, level = self._gauge.reading, self._gauge.level
        speed = 1.0 if reading is None else import_speed(reading.fill.worst, level)
        if level is Level.NORMAL:
            speed = 1.0
        speed = min(speed, self._ordered())
        self._say(reading, full=speed == 0.0)
        self._worked_since = self._clock.monotonic()
        if speed == 0.0:
            return max(MIN_PAUSE_SECONDS, self._measure_at - self._clock.monotonic())
        return min(MAX_IMPORT_PAUSE_SECONDS, worked * (1.0 / speed - 1.0))

    def _measure_if_due(self) -> None:
        began = self._clock.monotonic()
        if began < self._measure_at:
            return
        try:
            self._gauge.measured(self._depths())
        except DatabaseError as error:
            self._gauge.failed(error)
        ended = self._clock.monotonic()
        self._measure_at = ended + pause_after(ended - began)

    def _say(self, reading: Reading | None, *, full: bool) -> None:
        if full and not self._is_full and reading is not None:
            self._on_full(
                f"the buffer is full to {reading.fill.worst:.0%} of its bound ({reading.waiting:,} leads wait): "
                "waiting until the pipeline has made room"
            )
        elif self._is_full and not full:
            self._on_room()
        self._is_full = full


def pace_for(
    engine: sa.Engine,
    buffer: LeadBuffer,
    *,
    settings: Settings,
    clock: Clock,
    on_full: Callable[[str], None] = lambda _why: None,
    on_room: Callable[[], None] = lambda: None,
    ordered: Callable[[], float] = lambda: 1.0,
) -> BufferPace:
    """The pace of an import into ``buffer``."""

    def depths() -> Sequence[BufferDepth]:
        with engine.connect() as connection:
            return buffer.depths(connection)

    url = engine.url.render_as_string(hide_password=False)
    gauge = gauge_for(settings, database_url=url, clock=clock)
    return BufferPace(depths, gauge, clock=clock, on_full=on_full, on_room=on_room, ordered=ordered)
