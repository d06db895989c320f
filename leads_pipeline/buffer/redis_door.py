"""The buffer in Redis Streams, for the capture service: one script a commit, and a look at what waits."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import redis.exceptions

from leads_pipeline.buffer.port import BufferDepth, EncodedLead, Posted
from leads_pipeline.buffer.redis_append import AppendCall, groups_of
from leads_pipeline.buffer.redis_connection import SETTINGS, connect_async, objections, translated_errors
from leads_pipeline.buffer.redis_entries import depths_of, places_of
from leads_pipeline.buffer.redis_keys import Keys
from leads_pipeline.buffer.redis_scripts import APPEND
from leads_pipeline.errors import DatabaseUnavailable, Unavailability
from leads_pipeline.telemetry import get_logger


class AsyncRedisBuffer:
    """The buffer as the capture service's writer uses it."""

    def __init__(self, url: str, *, prefix: str, key_seconds: int, accept_losing_a_second: bool = False) -> None:
        self._client = connect_async(url)
        self._keys = Keys(prefix)
        self._key_seconds = key_seconds
        self._accept_losing_a_second = accept_losing_a_second
        self._append = self._client.register_script(APPEND)
        self._is_trusted = False
        self._objections: list[str] = []

    async def append(self, leads: Sequence[EncodedLead], *, now: datetime) -> list[Posted]:
        found: dict[UUID, Posted] = {}
        with self._translated("storing leads"):
            await self._verify()
            for group in groups_of(leads):
                call = AppendCall.of(group, keys=self._keys, key_seconds=self._key_seconds)
                found.update(call.refused)
                found.update(call.results(await self._append(keys=call.keys, args=call.arguments)))
        return [found[lead.lead_id] for lead in leads]

    async def check(self) -> None:
        with self._translated("asking whether leads can be stored"):
            await self._verify()
            call = AppendCall.of([], keys=self._keys, key_seconds=self._key_seconds)
            await self._append(
                keys=call.keys, args=call.arguments
            )  # writes nothing new, and is refused as a lead would be

    async def close(self) -> None:
        await self._client.aclose()

    async def _verify(self) -> None:
        """As ``RedisBuffer.verify``, after every lost connection: the server may have come back with other settings."""
        if self._is_trusted:
            return
        info = await self._client.info("everything")
        settings: Mapping[str | None, str | None] | None = None
        with contextlib.suppress(redis.exceptions.ResponseError, redis.exceptions.NoPermissionError):
            settings = await self._client.config_get(*SETTINGS)
        found = objections(info, settings, accept_losing_a_second=self._accept_losing_a_second)
        if found != self._objections:  # senders and /readyz are told only that nothing is taken
            self._objections = found
            if found:
                get_logger(__name__).error("redis cannot be trusted", because=found)
        if found:
            raise DatabaseUnavailable(
                f"the Redis buffer cannot be trusted with leads: {'; '.join(found)}", why=Unavailability.READ_ONLY
            )
        self._is_trusted = True

    @contextlib.contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            with translated_errors(doing):
                yield
        except BaseException:
            self._is_trusted = False
            raise


class AsyncRedisDepths:
    """What waits in Redis, for the capture service; on a connection of its own."""

    def __init__(self, url: str, *, prefix: str) -> None:
        self._client = connect_async(url)
        self._keys = Keys(prefix)

    async def read(self) -> list[BufferDepth]:
        """As ``LeadBuffer.depths``.

        Raises:
            DatabaseUnavailable: nothing is known.
        """
        with translated_errors("counting what waits"):
            places = places_of(await self._client.hkeys(self._keys.counters))
            async with self._client.pipeline(transaction=False) as pipe:
                for tenant, lane in places:
                    pipe.xlen(self._keys.stream(tenant, lane))
                    pipe.xrange(self._keys.stream(tenant, lane), count=1)
                answers = await pipe.execute()
        return depths_of(places, answers)

    async def close(self) -> None:
        """Let go of the connection."""
        await self._client.aclose()
