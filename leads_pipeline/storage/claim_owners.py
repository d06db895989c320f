"""Whether the process that holds a claim still lives: it holds an advisory lock for as long as it does.

A lease alone must outlive the longest request, so that what a killed worker held would wait for minutes. Where
connections are pooled by transaction the lock does not stay with its holder; then the lease is all there is. Keep out:
claims themselves (``outbox``).
"""

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta

import sqlalchemy as sa

from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)

# A dead worker's last request may still be under way at the CRM, which must not take it after a newer one: it has until
# the request's time-out, and this beyond. For rows with no request under way it is time to notice a clock that differs.
GRACE = timedelta(seconds=5)

# A lock by one bigint, as ``pg_locks`` has it.
_KEY = "(l.classid::bigint << 32) | l.objid::bigint"
_LOCKS = "pg_locks l where l.locktype = 'advisory' and l.objsubid = 1 and l.granted"
_HERE = "l.database = (select oid from pg_database where datname = current_database())"

_TAKE = sa.text("select pg_try_advisory_lock(:key)")
_GIVE_BACK = sa.text("select pg_advisory_unlock(:key)")
_HELD = sa.text(
    f"select exists (select from {_LOCKS} and {_HERE} and l.pid = pg_backend_pid() and {_KEY} = :key)"  # noqa: S608 - no value is spliced in
)
_RELEASE = sa.text(
    f"""
    with dead as materialized (
        select owner from (
            select distinct claim_owner as owner from outbox where claimed_by is not null and claim_owner is not null
        ) as owners
        where not exists (select from {_LOCKS} and {_HERE} and {_KEY} = owners.owner)
    ),
    theirs as materialized (
        select outbox_id, greatest(under_way_until, :until) as free_at from outbox
        where claimed_by is not null and claim_owner in (select owner from dead)
            and claimed_until > greatest(under_way_until, :until)
        for update skip locked
    )
    update outbox set claimed_until = theirs.free_at, updated_at = :now
    from theirs where outbox.outbox_id = theirs.outbox_id
    """  # noqa: S608 - no value is spliced in
)


class ClaimOwner:
    """This process, as the owner of its claims. Safe to share between threads."""

    def __init__(self, connection: sa.Connection) -> None:
        """``connection`` commits each statement, and is used for nothing else while the owner lives."""
        self._connection = connection
        self._lock = threading.Lock()
        self._key: int | None = secrets.randbits(62)
        connection.execute(_TAKE, {"key": self._key})

    def key(self) -> int | None:
        """What a claim is stamped with; ``None`` once others could not tell that we live: the lease holds it then."""
        with self._lock:
            if self._key is None:
                return None
            try:
                held: bool = self._connection.execute(_HELD, {"key": self._key}).scalar_one()
            except sa.exc.DBAPIError:
                held = False
            if not held:
                self._key = None
                log.warning("claims_by_lease_alone")
            return self._key

    def leave(self) -> None:
        """Give the lock back, if it is still ours: the server notices a closed session only a moment later."""
        with suppress(sa.exc.DBAPIError):
            if self.key() is not None:
                self._connection.execute(_GIVE_BACK, {"key": self._key})


@contextmanager
def claim_owner(engine: sa.Engine) -> Iterator[ClaimOwner]:
    """An owner that lives until the block ends, by a connection of its own."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        owner = ClaimOwner(connection)
        try:
            yield owner
        finally:
            owner.leave()
            connection.invalidate()  # closes the session, and with it the lock


def release_dead_claims(connection: sa.Connection, *, now: datetime, grace: timedelta = GRACE) -> int:
    """Let the claims of processes that are gone run out after ``grace``; how many did so.

    What such a process had sent, and never heard of, is left until the CRM has had its time for it.
    """
    return connection.execute(_RELEASE, {"until": now + grace, "now": now}).rowcount
