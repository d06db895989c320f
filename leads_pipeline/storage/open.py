"""How a door gets its database: from ``LEADS_DATABASE_URL`` or from the embedded server, with the right schema."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import sqlalchemy as sa

from leads_pipeline.clock import Clock, SystemClock
from leads_pipeline.config import DATABASE_URL_VARIABLE, Settings, database_url
from leads_pipeline.errors import DatabaseError, DatabaseUnavailable
from leads_pipeline.storage.database import CONNECT_SECONDS, TimeOuts, engine_for, is_unavailable
from leads_pipeline.storage.embedded import EmbeddedServer
from leads_pipeline.storage.migrate import is_ready, require_current, upgrade
from leads_pipeline.storage.roles import ROLES

_INSUFFICIENT_PRIVILEGE = "42501"


def open_database(
    settings: Settings,
    *,
    pool_size: int = 5,
    application_name: str = "leads_pipeline",
    clock: Clock | None = None,
    connect_seconds: int = CONNECT_SECONDS,
) -> sa.Engine:
    """An engine on a database with this version's schema.

    The embedded server is started if it does not run and upgraded if it is behind. A database of the user's own is
    never changed behind their back.

    Raises:
        EmbeddedServerError: the embedded server cannot run here.
        DatabaseUnavailable: the configured database cannot be reached, or refuses the login.
        DatabaseError: the configured user may not read the schema.
        SchemaOutdated: its schema is not this version's.
    """
    configured = database_url()
    url = configured or EmbeddedServer(settings.state_path).start()
    allowed = settings.database
    time_outs = TimeOuts(allowed.statement_seconds, allowed.lock_seconds, allowed.idle_transaction_seconds)
    engine = engine_for(
        url,
        pool_size=pool_size,
        application_name=application_name,
        time_outs=time_outs,
        connect_seconds=connect_seconds,
    )
    try:
        with explained_refusals(engine):
            if configured is not None:
                require_current(engine)
            elif not is_ready(engine, now=(now := (clock or SystemClock()).now())):
                _upgrade(url, now=now)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _upgrade(url: str, *, now: datetime) -> None:
    """Without time-outs: a migration takes as long as it takes."""
    engine = engine_for(url, pool_size=1)
    try:
        upgrade(engine, now=now)
    finally:
        engine.dispose()


@contextmanager
def explained_refusals(engine: sa.Engine) -> Iterator[None]:
    """Turn what a server says to a first connection into an error that names the database and what to do.

    For first contact only: it quotes the server, which does not yet know a lead.
    """
    try:
        yield
    except sa.exc.DBAPIError as error:
        reason = str(error.orig).partition("\n")[0]
        if getattr(error.orig, "sqlstate", None) == _INSUFFICIENT_PRIVILEGE:
            raise DatabaseError(
                f"{_shown(engine)} refused this user: {reason}. Grant the user one of the roles {', '.join(ROLES)}, or "
                f"use the owner of the tables"
            ) from error
        if not is_unavailable(error):
            raise
        raise DatabaseUnavailable(
            f"cannot connect to {_shown(engine)}: {reason}. Check {DATABASE_URL_VARIABLE} and that the server runs"
        ) from error


def url_of(settings: Settings) -> str:
    """The database's URL for other programs (Dagster, dbt), the embedded server started if need be.

    It holds the password: pass it on in an environment or a file of mode 600, never on a command line.
    """
    return database_url() or EmbeddedServer(settings.state_path).start()


def _shown(engine: sa.Engine) -> str:
    return engine.url.set(drivername="postgresql").render_as_string(hide_password=True)
