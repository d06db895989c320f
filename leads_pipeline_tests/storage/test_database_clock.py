"""The clock that all machines share."""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.storage.database_clock import READ_SECONDS, DatabaseClock


def _told(engine: sa.Engine) -> datetime:
    with engine.connect() as connection:
        told: datetime = connection.execute(sa.text("select clock_timestamp()")).scalar_one()
    return told


def test_machines_whose_clocks_differ_agree_on_the_database_s(engine: sa.Engine) -> None:
    wrong = [FrozenClock(datetime.now(UTC) + off) for off in (timedelta(seconds=71), timedelta(hours=-3))]
    before = _told(engine)
    instants = [DatabaseClock(engine, machine=machine).now() for machine in wrong]
    assert all(before <= instant <= _told(engine) for instant in instants)


def test_it_is_asked_once_a_minute_and_goes_on_in_between(engine: sa.Engine) -> None:
    machine = FrozenClock(datetime(2020, 1, 1, tzinfo=UTC))
    clock = DatabaseClock(engine, machine=machine)
    first = clock.now()
    clock.sleep(READ_SECONDS - 1)
    assert clock.now() == first + timedelta(seconds=READ_SECONDS - 1)
    assert clock.monotonic() == READ_SECONDS - 1
    clock.sleep(1)
    assert first < clock.now() <= _told(engine)  # the machine's minute was none of the database's


def test_while_the_database_is_away_what_it_told_last_goes_on(engine: sa.Engine) -> None:
    machine = FrozenClock(datetime(2020, 1, 1, tzinfo=UTC))
    away = sa.create_engine("postgresql+psycopg://nobody@127.0.0.1:9/nothing", connect_args={"connect_timeout": 1})
    assert DatabaseClock(away, machine=machine).now() == machine.now()
    clock = DatabaseClock(engine, machine=machine)
    first = clock.now()
    clock._engine = away
    machine.advance(2 * READ_SECONDS)
    assert clock.now() == first + timedelta(seconds=2 * READ_SECONDS)
