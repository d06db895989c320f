"""The buffer in Redis Streams, through the steps' client and through the capture service's connection."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from leads_pipeline.buffer.port import BufferDepth, Moved, NewLead, Posted
from leads_pipeline.buffer.redis_door import AsyncRedisBuffer
from leads_pipeline.buffer.redis_streams import RedisBuffer
from leads_pipeline.domain.stage import Chunk, Lane
from leads_pipeline_tests.buffer.contract import BufferContract, Parts

KEY_SECONDS = 30 * 86_400


def redis_buffer(url: str, *, lease: timedelta = timedelta(minutes=1)) -> RedisBuffer:
    return RedisBuffer(url, prefix="leads", key_seconds=KEY_SECONDS, lease=lease)


def counted(buffer: RedisBuffer) -> tuple[int, int]:
    """(captured, duplicates) as the door's script counted them."""
    found = buffer.snapshot()
    return sum(found.captured.values()), sum(found.duplicates.values())


class _ThroughTheDoor:
    """Appends as the capture service does, and leaves the rest to the steps' buffer."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._steps = redis_buffer(url)

    def append(self, leads: Sequence[NewLead], *, now: datetime) -> list[Posted]:
        async def run() -> list[Posted]:
            buffer = AsyncRedisBuffer(self._url, prefix="leads", key_seconds=KEY_SECONDS)
            try:
                return await buffer.append([lead.encoded() for lead in leads], now=now)
            finally:
                await buffer.close()

        return asyncio.run(run())

    def move(self, connection: sa.Connection, chunk: Chunk) -> Moved:
        return self._steps.move(connection, chunk)

    def tenants_waiting(self, connection: sa.Connection, *, lanes: Sequence[Lane]) -> list[str]:
        return self._steps.tenants_waiting(connection, lanes=lanes)

    def depths(self, connection: sa.Connection) -> list[BufferDepth]:
        return self._steps.depths(connection)

    def close(self) -> None:
        self._steps.close()


class TestThroughTheSteps(BufferContract):
    @pytest.fixture
    def parts(self, engine: sa.Engine, redis_url: str) -> Iterator[Parts]:
        buffer = redis_buffer(redis_url)
        yield Parts(buffer, engine, lambda: counted(buffer))
        buffer.close()


class TestThroughTheDoor(BufferContract):
    @pytest.fixture
    def parts(self, engine: sa.Engine, redis_url: str) -> Iterator[Parts]:
        steps = redis_buffer(redis_url)
        door = _ThroughTheDoor(redis_url)
        yield Parts(door, engine, lambda: counted(steps))
        steps.close()
        door.close()
