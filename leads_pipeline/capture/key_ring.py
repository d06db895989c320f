"""The API keys in force, as the door knows them: read whole, kept for a moment.

All keys are few and one query reads them, so a flood of wrong keys costs the database nothing.
"""

import asyncio
from dataclasses import dataclass

from leads_pipeline.buffer.reconnecting import ReconnectingConnection
from leads_pipeline.clock import Clock
from leads_pipeline.errors import DatabaseUnavailable
from leads_pipeline.storage.api_keys import KEYS_IN_FORCE, KeyScope, key_id_of, matches

# A revoked key is refused after this long at the latest.
KEYS_TTL_SECONDS = 2.0
# A key that is not known may have been made since: then the keys are read again, but not for every wrong key.
UNKNOWN_KEY_TTL_SECONDS = 0.25
# While the database cannot be asked, the keys that were known stay in force so long: a buffer elsewhere still takes
# leads. Asking again is left off for a moment, or every request would wait for a connection that does not come.
STALE_KEYS_SECONDS = 900.0
ASK_AGAIN_SECONDS = 0.5
# A database that takes the question and does not answer holds nobody up for longer than this who has a known key.
ANSWER_PATIENCE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """Whom a key speaks for, and what it may do. Only one that posts has a source."""

    key_id: str
    tenant: str
    scope: KeyScope
    source: str | None


class KeyRing:
    """Finds whom a presented key speaks for."""

    def __init__(self, connection: ReconnectingConnection, *, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._keys: dict[str, tuple[KeyHolder, str]] = {}
        self._read_at: float | None = None
        self._failed_at: float | None = None
        self._reading: asyncio.Task[None] | None = None
        self._reading_since = 0.0  # of the loop's time

    async def holder_of(self, text: str) -> KeyHolder | None:
        """The holder of a key in force, or ``None``.

        Raises:
            DatabaseUnavailable: the keys cannot be read, and were not for ``STALE_KEYS_SECONDS``.
        """
        key_id = key_id_of(text)
        if key_id is None:
            return None
        await self._refresh(older_than=KEYS_TTL_SECONDS)
        if key_id not in self._keys:
            await self._refresh(older_than=UNKNOWN_KEY_TTL_SECONDS)
        known = self._keys.get(key_id)
        if known is None:
            return None
        holder, key_sha256 = known
        return holder if matches(text, key_sha256) else None

    async def close(self) -> None:
        """Wait for no answer any more."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})

    async def _refresh(self, *, older_than: float) -> None:
        for _try in range(2):  # another request's reading may have begun too early for this one
            if not self._is_older_than(older_than) or not await self._read_together():
                break
        if self._is_older_than(STALE_KEYS_SECONDS):
            raise DatabaseUnavailable("the API keys cannot be read; try again")

    async def _read_together(self) -> bool:
        """Read the keys, or wait for a reading that is under way; whether it came to its end in time."""
        loop = asyncio.get_running_loop()
        if self._reading is None or self._reading.done():
            now = self._clock.monotonic()
            if self._failed_at is not None and now - self._failed_at < ASK_AGAIN_SECONDS:
                return False
            self._reading = asyncio.create_task(self._read(now), name="reading of API keys")
            self._reading_since = loop.time()
        reading, left = self._reading, None
        if not self._is_older_than(STALE_KEYS_SECONDS):
            left = max(0.0, self._reading_since + ANSWER_PATIENCE_SECONDS - loop.time())
        await asyncio.wait({reading}, timeout=left)
        if reading.done():
            reading.result()
        return reading.done()

    async def _read(self, asked_at: float) -> None:
        try:
            rows = await self._connection.fetch(KEYS_IN_FORCE)
        except DatabaseUnavailable:
            self._failed_at = self._clock.monotonic()
            return
        self._keys = {
            key_id: (KeyHolder(key_id, tenant, KeyScope(scope), source), key_sha256)
            for key_id, tenant, scope, source, key_sha256 in rows
        }
        self._read_at, self._failed_at = asked_at, None

    def _is_older_than(self, seconds: float) -> bool:
        return self._read_at is None or self._clock.monotonic() - self._read_at >= seconds
