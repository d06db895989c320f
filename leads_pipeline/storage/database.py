"""Connections to PostgreSQL, and the translation of the driver's errors.

``open_database`` is what a door calls: it starts the embedded server if no URL is configured, checks or upgrades the
schema and returns an engine whose connections see our tables.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from leads_pipeline.errors import ConfigError, DatabaseError, DatabaseUnavailable, Unavailability
from leads_pipeline.storage.schema import SCHEMA

# SQLSTATE classes after which the same call may succeed later: connection, a transaction taken back (for a deadlock),
# resources, operator intervention.
_TAKEN_BACK = "40"
_UNAVAILABLE_CLASSES = ("08", _TAKEN_BACK, "53", "57")
# As well as a server that became a standby or was set read-only.
_READ_ONLY = "25006"
# A transaction that was ended because nothing happened in it, or because it lasted too long.
_IDLE = ("25P03", "25P04")
_CANCELLED = "57014"
_LOCKED = "55P03"
_DISK_FULL = "53100"

CONNECT_SECONDS = 10
# An engine's execution option, and what is remembered of the transaction under way: see ``with_statement_limit``.
_LIMIT = "leads_statement_limit"


# Where a database or a role leaves it off, a crash takes back commits: leads that somebody was answered for, or that
# Redis has let go of.
_DURABLE = """
select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'
"""


# Of a server that is gone without a word, or a firewall that forgot the connection, one that waits for an answer would
# never know, and one that has sent something after a quarter of an hour. So they know after one minute, and two: less
# would end a COPY whose server waits for a lock and takes nothing in. libpq leaves these out where there is no TCP.
_PEER_IS_THERE = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 120_000,  # milliseconds
}


@dataclass(frozen=True, slots=True)
class TimeOuts:
    """How long the server lets a session go on, in seconds; 0: without end. See ``config.DatabaseSettings``."""

    statement: float = 0.0
    lock: float = 0.0
    idle_in_transaction_session: float = 0.0


def engine_for(
    url: str,
    *,
    pool_size: int = 5,
    application_name: str = "leads_pipeline",
    time_outs: TimeOuts | None = None,
    connect_seconds: int = CONNECT_SECONDS,
) -> sa.Engine:
    """An engine for a ``postgresql://`` URL, through psycopg 3, in UTC, with our schema first on the search path.

    Without ``time_outs`` the server's own are left as they are: migrations take as long as they take.
    """
    address = sqlalchemy_url(url)
    probed = {name: value for name, value in _PEER_IS_THERE.items() if name not in address.query}
    engine = sa.create_engine(
        address,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        hide_parameters=True,  # an error must not quote the lead that it is about
        connect_args={
            "application_name": application_name,
            "connect_timeout": connect_seconds,
            "prepare_threshold": 5,
            **probed,
        },
    )

    @sa.event.listens_for(engine, "connect")
    def _set_session(connection: Any, _record: Any) -> None:
        connection.execute(f"set search_path to {SCHEMA}, public")
        connection.execute("set time zone 'UTC'")
        connection.execute(_DURABLE)
        for name, seconds in asdict(time_outs).items() if time_outs is not None else ():
            connection.execute(f"set {name}_timeout to {round(1000 * seconds)}")
        connection.commit()

    return engine


def with_statement_limit(engine: sa.Engine, seconds: Callable[[], float]) -> sa.Engine:
    """The engine, where PostgreSQL ends each statement after so long; asked anew before each. Its pool is the same.

    Of an engine that has a limit already the shorter one counts. The limit does not stay with a connection.
    """
    outer: Callable[[], float] | None = engine.get_execution_options().get(_LIMIT)
    if outer is not None:
        return engine.execution_options(**{_LIMIT: lambda: min(seconds(), outer())})  # the listeners come with it
    limited = engine.execution_options(**{_LIMIT: seconds})
    sa.event.listen(limited, "begin", _forget_limit)
    sa.event.listen(limited, "before_cursor_execute", _limit_statement)
    return limited


def _forget_limit(connection: sa.Connection) -> None:
    connection.info.pop(_LIMIT, None)


def _limit_statement(connection: sa.Connection, *_statement: object) -> None:
    # 0 would be without end. A limit that is still short enough is not set again: it would be one more round trip.
    milliseconds = max(1, round(1000 * connection.get_execution_options()[_LIMIT]()))
    if milliseconds < connection.info.get(_LIMIT, float("inf")):
        connection.info[_LIMIT] = milliseconds
        cursor: Any = connection.connection.cursor()
        cursor.execute(f"set local statement_timeout = {milliseconds}")
        cursor.close()


def sqlalchemy_url(url: str, *, driver: str = "psycopg") -> sa.URL:
    """``url`` for SQLAlchemy with an explicit driver.

    Dagster needs ``psycopg2``: SQLAlchemy 2.1 takes a bare ``postgresql://`` to mean psycopg 3, with which
    dagster-postgres fails on every event it writes.

    Raises:
        ConfigError: it is no URL of a PostgreSQL. The message does not repeat it: any part may be of the password.
    """
    try:
        scheme = urlsplit(url).scheme.split("+")[0]
        parsed = make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise ConfigError(
            "the database URL cannot be read; it must look like postgresql://user:password@host:port/name, "
            "with @ : / ? # % in a password written as %40 %3A %2F %3F %23 %25"
        ) from None
    if scheme not in ("postgresql", "postgres"):
        raise ConfigError(f"a database URL must begin with postgresql://, this one begins with {scheme}://")
    return parsed.set(drivername=f"postgresql+{driver}")


@contextmanager
def translated_errors(doing: str) -> Iterator[None]:
    """Turn the driver's connection errors into ``DatabaseUnavailable``; ``doing`` says what was tried.

    Raises:
        DatabaseUnavailable: the database, not the statement, is the trouble.
        DatabaseError: somebody else held what was needed for longer than ``database.lock_seconds``.
    """
    try:
        yield
    except sa.exc.DBAPIError as error:
        if is_unavailable(error):
            raise unavailable(error, doing) from error
        if getattr(error.orig, "sqlstate", None) == _LOCKED:
            raise DatabaseError(
                f"{doing}: another session held what it needed for longer than database.lock_seconds; "
                "pg_stat_activity shows whose transaction is the oldest"
            ) from error
        raise


def copy_text(connection: sa.Connection, statement: str, text: bytes) -> None:
    """Run ``copy … from stdin`` with these lines, in the connection's transaction.

    The driver's own interface, because SQLAlchemy has none for COPY; errors are raised as SQLAlchemy raises them.
    """
    driver = connection.connection.driver_connection
    assert driver is not None
    dialect = connection.dialect
    with driver.cursor() as cursor:
        try:
            with cursor.copy(statement) as copy:
                copy.write(text)
        except dialect.loaded_dbapi.Error as error:
            raise sa.exc.DBAPIError.instance(
                statement, None, error, dialect.loaded_dbapi.Error, hide_parameters=True, dialect=dialect
            ) from None


def is_unavailable(error: BaseException) -> bool:
    """Whether a driver's error says that the database, not the statement, is the trouble."""
    original = getattr(error, "orig", None) or error
    state = getattr(original, "sqlstate", None)
    if state is None:
        # By name, as two drivers have them; also of what is derived from them, such as psycopg's ConnectionTimeout.
        names = {kind.__name__ for kind in type(original).__mro__}
        return isinstance(original, OSError) or bool(names & {"OperationalError", "InterfaceError"})
    return str(state)[:2] in _UNAVAILABLE_CLASSES or state in (_READ_ONLY, *_IDLE)


def unavailable(error: BaseException, doing: str) -> DatabaseUnavailable:
    """The driver's error, for which ``is_unavailable`` holds, as ours; ``doing`` says what was tried."""
    state = getattr(getattr(error, "orig", None) or error, "sqlstate", None)
    if state == _READ_ONLY:
        return DatabaseUnavailable(
            f"{doing}: the database is read-only for now; try again", why=Unavailability.READ_ONLY
        )
    if state == _DISK_FULL:
        return DatabaseUnavailable(f"{doing}: the database's disk is full; try again", why=Unavailability.DISK_FULL)
    if state == _CANCELLED:
        return DatabaseUnavailable(
            f"{doing}: a statement was cancelled, by a person or because it took longer than "
            "database.statement_seconds; try again, or allow it more"
        )
    if state in _IDLE:
        return DatabaseUnavailable(
            f"{doing}: its transaction was ended, because nothing happened in it for longer than "
            "database.idle_transaction_seconds; try again"
        )
    if str(state)[:2] == _TAKEN_BACK:
        return DatabaseUnavailable(f"{doing}: another transaction was in the way and won; try again")
    return DatabaseUnavailable(f"{doing}: the database cannot be reached; try again")
