"""Somebody who waits for a lock of this database."""

import sqlalchemy as sa

_BLOCKED = sa.text(
    "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
)
_LOOKS = 5_000  # of 2 ms each


def until_somebody_is_blocked(engine: sa.Engine) -> None:
    """Return once a connection waits for a lock.

    Raises:
        AssertionError: nobody does, for ten seconds on end.
    """
    with engine.connect() as watcher:
        for _look in range(_LOOKS):
            if watcher.execute(_BLOCKED).scalar_one() > 0:
                return
            watcher.execute(sa.text("select pg_sleep(0.002)"))
            watcher.rollback()  # what it sees stays the same within a transaction
    raise AssertionError("nobody waits for a lock")
