"""A database for a while: on the embedded server, beside the user's own, with the schema and no rows.

For what must run through the real steps and leave nothing behind. The name tells which process it belongs to, so what a
killed one left is dropped by the next.
"""

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import psutil
import psycopg
import sqlalchemy as sa
from psycopg import sql

from leads_pipeline.errors import EmbeddedServerError
from leads_pipeline.storage.database import engine_for
from leads_pipeline.storage.embedded import EmbeddedServer, ServerState
from leads_pipeline.storage.migrate import upgrade

_NAME = re.compile(r"scratch_(\d+)_[0-9a-f]+")


@contextmanager
def scratch_database(server: EmbeddedServer, *, now: datetime) -> Iterator[sa.Engine]:
    """An engine on a new database, which is dropped at the end. A server that did not run is stopped again.

    Raises:
        EmbeddedServerError: the server cannot run here, or refuses a database.
    """
    is_ours_to_stop = server.status().state is not ServerState.RUNNING
    maintenance = server.start().rpartition("/")[0] + "/postgres"
    try:
        name = f"scratch_{os.getpid()}_{secrets.token_hex(4)}"
        try:
            _drop_of_dead_processes(maintenance)
            url = server.drop_and_create_database(name)
        except psycopg.Error as error:
            raise EmbeddedServerError(
                f"the embedded PostgreSQL in {server.directory} refused a database for a while: {type(error).__name__}"
            ) from error
        engine = engine_for(url, application_name="leads_scratch")
        try:
            upgrade(engine, now=now)
            yield engine
        finally:
            engine.dispose()
            _drop(maintenance, name)
    finally:
        if is_ours_to_stop:
            server.stop()


def _drop_of_dead_processes(maintenance: str) -> None:
    with psycopg.connect(maintenance, autocommit=True, connect_timeout=10) as connection:
        names = [str(row[0]) for row in connection.execute("select datname from pg_database").fetchall()]
    for name in names:
        if (found := _NAME.fullmatch(name)) and not psutil.pid_exists(int(found[1])):
            _drop(maintenance, name)


def _drop(maintenance: str, name: str) -> None:
    with psycopg.connect(maintenance, autocommit=True, connect_timeout=10) as connection:
        connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
