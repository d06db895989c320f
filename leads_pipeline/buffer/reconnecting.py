"""One asynchronous connection to PostgreSQL that comes back after it was lost."""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from leads_pipeline.storage.database import is_unavailable, sqlalchemy_url, unavailable
from leads_pipeline.storage.schema import SCHEMA

CONNECT_SECONDS = 3
# A commit takes milliseconds. A server that is stopped, or behind a dead network, must not hold a sender for minutes.
ANSWER_SECONDS = 10.0


class ReconnectingConnection:
    """Runs one statement at a time, each in its own transaction; reconnects before the next one if it must."""

    def __init__(
        self,
        url: str,
        *,
        application_name: str,
        answer_seconds: float = ANSWER_SECONDS,
        session: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._url = sqlalchemy_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._application_name = application_name
        self._answer_seconds = answer_seconds
        self._session = {"search_path": f"{SCHEMA},public", "timezone": "UTC", "jit": "off", **session}
        self._connection: psycopg.AsyncConnection[TupleRow] | None = None
        self._lock = asyncio.Lock()

    async def fetch(self, statement: str, parameters: Mapping[str, Any] | None = None) -> list[TupleRow]:
        """Run a statement and return its rows.

        Raises:
            DatabaseUnavailable: the connection failed; whether the statement took effect is unknown.
            psycopg.Error: PostgreSQL refused the statement or a value.
        """
        async with self._lock:
            try:
                async with asyncio.timeout(self._answer_seconds):
                    if self._connection is None:
                        self._connection = await self._connect()
                    cursor = await self._connection.execute(statement.encode(), parameters)
                    return await cursor.fetchall()
            except (psycopg.Error, OSError) as error:
                if not is_unavailable(error):
                    raise
                await self._drop()
                raise unavailable(error, "running a statement") from error
            except BaseException:  # cancelled in mid-statement: what the connection would say next is not ours
                await self._drop()
                raise

    async def close(self) -> None:
        """Close the connection; a later ``fetch`` opens a new one."""
        async with self._lock:
            await self._drop()

    async def _connect(self) -> psycopg.AsyncConnection[TupleRow]:
        return await psycopg.AsyncConnection.connect(
            self._url,
            autocommit=True,
            connect_timeout=CONNECT_SECONDS,
            application_name=self._application_name,
            options=" ".join(f"-c {name}={value}" for name, value in self._session.items()),
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=3,
            prepare_threshold=1,
        )

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
