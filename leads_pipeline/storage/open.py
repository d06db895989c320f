"""How a door gets its database: from ``LEADS_DATABASE_URL`` or from the embedded server, with the right schema."""

import sqlalchemy as sa

from leads_pipeline.clock import Clock, SystemClock
from leads_pipeline.config import DATABASE_URL_VARIABLE, Settings, database_url
from leads_pipeline.errors import DatabaseUnavailable
from leads_pipeline.storage.database import engine_for, is_unavailable
from leads_pipeline.storage.embedded import EmbeddedServer
from leads_pipeline.storage.migrate import is_ready, require_current, upgrade


def open_database(
    settings: Settings,
    *,
    pool_size: int = 5,
    application_name: str = "leads_pipeline",
    clock: Clock | None = None,
) -> sa.Engine:
    """An engine on a database with this version's schema.

    The embedded server is started if it does not run and upgraded if it is behind. A database of the user's own is
    never changed behind their back.

    Raises:
        EmbeddedServerError: the embedded server cannot run here.
        DatabaseUnavailable: the configured database cannot be reached.
        SchemaOutdated: its schema is not this version's.
    """
    configured = database_url()
    url = configured or EmbeddedServer(settings.state_path).start()
    engine = engine_for(url, pool_size=pool_size, application_name=application_name)
    try:
        if configured is not None:
            require_current(engine)
        elif not is_ready(engine, now=(now := (clock or SystemClock()).now())):
            upgrade(engine, now=now)
    except sa.exc.DBAPIError as error:
        engine.dispose()
        if not is_unavailable(error):
            raise
        reason = str(error.orig).partition("\n")[0]
        raise DatabaseUnavailable(
            f"cannot connect to {_shown(engine)}: {reason}. Check {DATABASE_URL_VARIABLE} and that the server runs"
        ) from error
    except BaseException:
        engine.dispose()
        raise
    return engine


def url_of(settings: Settings) -> str:
    """The database's URL for other programs (Dagster, dbt), the embedded server started if need be.

    It holds the password: pass it on in an environment or a file of mode 600, never on a command line.
    """
    return database_url() or EmbeddedServer(settings.state_path).start()


def _shown(engine: sa.Engine) -> str:
    return engine.url.set(drivername="postgresql").render_as_string(hide_password=True)
