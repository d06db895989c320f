"""The database's clock, which is the same on every machine.

What is due and until when a claim holds is compared between processes: one whose machine is a minute ahead would take
what another one is just sending. Keep out: the limiter's instants, which its statements take from the database.
"""

import threading
from datetime import datetime, timedelta

import sqlalchemy as sa

from leads_pipeline.clock import Clock, SystemClock
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)

# In between, the machine's monotonic clock carries it on.
READ_SECONDS = 60.0
# A machine that is further off than this is worth a word.
_FAR = timedelta(seconds=5)


class DatabaseClock:
    """A ``Clock`` by the database's time. Safe to share between threads."""

    def __init__(self, engine: sa.Engine, *, machine: Clock | None = None) -> None:
        self._engine = engine
        self._machine = machine or SystemClock()
        self._lock = threading.Lock()
        self._read: tuple[float, datetime] | None = None

    def now(self) -> datetime:
        """The database's current instant, by at most a round trip too early."""
        with self._lock:
            elapsed = self._machine.monotonic()
            if self._read is None or elapsed - self._read[0] >= READ_SECONDS:
                self._read = self._asked() or self._read
            if self._read is None:
                return self._machine.now()  # whoever needs the database will hear that it is away
            read_at, told = self._read
            return told + timedelta(seconds=self._machine.monotonic() - read_at)

    def monotonic(self) -> float:
        return self._machine.monotonic()

    def sleep(self, seconds: float) -> None:
        self._machine.sleep(seconds)

    def _asked(self) -> tuple[float, datetime] | None:
        try:
            with self._engine.connect() as connection:
                told: datetime = connection.execute(sa.text("select clock_timestamp()")).scalar_one()
        except (sa.exc.DBAPIError, sa.exc.TimeoutError):
            return None
        if self._read is None and abs(told - self._machine.now()) > _FAR:
            log.warning("machine_clock_is_off", seconds=round((self._machine.now() - told).total_seconds()))
        return self._machine.monotonic(), told
