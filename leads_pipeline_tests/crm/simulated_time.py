"""Time that a test moves, for this process and the database alike.

The limiter reads the database's clock. In a simulation that clock is a row, which the functions of the database's own
names read: they stand before them on the search path of the engine that is simulated.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.storage.database import engine_for
from leads_pipeline.storage.schema import SCHEMA

_SCHEMA = """
create schema simulated;
create unlogged table simulated.clock (at timestamptz not null);
insert into simulated.clock values ('epoch');
create function simulated.clock_timestamp() returns timestamptz language sql volatile
    as 'select at from simulated.clock';
create function simulated.statement_timestamp() returns timestamptz language sql volatile
    as 'select at from simulated.clock';
"""


class SimulatedClock(FrozenClock):
    """A clock that the database shares. Sleeping moves it; threads may share it."""

    def __init__(self, engine: sa.Engine, at: datetime) -> None:
        super().__init__(at)
        self._engine = engine
        self._lock = threading.RLock()
        self.advance(0)

    def advance(self, seconds: float) -> None:
        with self._lock:
            super().advance(seconds)
            with self._engine.begin() as connection:
                connection.execute(sa.text("update simulated.clock set at = :now"), {"now": self.now()})

    def advance_to(self, instant: datetime) -> None:
        """Move on to ``instant``; never back."""
        self.advance(max(0.0, (instant - self.now()).total_seconds()))


@contextmanager
def simulated_time(database_url: str, at: datetime) -> Iterator[tuple[sa.Engine, SimulatedClock]]:
    """An engine and a clock that stand at ``at`` until the clock is moved."""
    plain = engine_for(database_url)
    with plain.begin() as connection:
        connection.execute(sa.text(_SCHEMA))
    plain.dispose()
    engine = engine_for(database_url)

    @sa.event.listens_for(engine, "connect")
    def _simulated_first(connection: Any, _record: Any) -> None:
        connection.execute(f"set search_path to simulated, {SCHEMA}, pg_catalog, public")
        connection.commit()

    try:
        yield engine, SimulatedClock(engine, at)
    finally:
        engine.dispose()
