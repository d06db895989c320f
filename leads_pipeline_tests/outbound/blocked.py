"""Somebody who waits for a lock of this database."""

import sqlalchemy as sa

_BLOCKED = sa.text(
    "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
)
_LOOK_SECONDS = 0.002


def until_somebody_is_blocked(engine: sa.Engine, *, count: int = 1, seconds: float = 60) -> None:
    """Return once so many connections wait for a lock.

    Raises:
        AssertionError: they do not, for ``seconds`` on end.
    """
    with engine.connect() as watcher:
        for _look in range(round(seconds / _LOOK_SECONDS)):
            if watcher.execute(_BLOCKED).scalar_one() >= count:
                return
            watcher.execute(sa.text("select pg_sleep(:seconds)"), {"seconds": _LOOK_SECONDS})
            watcher.rollback()  # what it sees stays the same within a transaction
    raise AssertionError(f"not {count} wait for a lock")
