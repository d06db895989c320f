"""What PostgreSQL notices a moment late: that a process is gone, and with it the locks of its sessions."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

_OTHERS = sa.text(
    "select pid from pg_stat_activity where datname = current_database() and backend_type = 'client backend'"
)


@contextmanager
def sessions_end(engine: sa.Engine) -> Iterator[None]:
    """At the end of the block, wait until the sessions that others have begun in it are over."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as watching:
        before = set(watching.execute(_OTHERS).scalars())
        yield
        while set(watching.execute(_OTHERS).scalars()) - before:
            pass
