"""Which buffer this configuration means: for the door, for steps and commands, and which are to be drained.

Redis is connected to only while ``buffer.redis`` stands in leads.yaml.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from leads_pipeline.buffer.port import AsyncDepths, AsyncLeadBuffer, LeadBuffer
from leads_pipeline.buffer.postgresql import AsyncPostgresBuffer, AsyncPostgresDepths, PostgresBuffer
from leads_pipeline.config import Settings
from leads_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from leads_pipeline.buffer.redis_streams import RedisBuffer

_NOT_INSTALLED = "buffer.redis needs the package redis: pip install 'leads_pipeline[redis]'"


def open_lead_buffer(settings: Settings, engine: sa.Engine) -> LeadBuffer:
    """The buffer that takes new leads. Close it.

    Raises:
        ConfigError: Redis is chosen, and its package or its URL's variable is missing.
    """
    if settings.buffer.kind == "redis":
        found = open_redis_buffer(settings)
        assert found is not None  # the configuration would not be valid
        return found
    return PostgresBuffer(engine)


def open_async_buffer(settings: Settings, database_url: str) -> AsyncLeadBuffer:
    """As ``open_lead_buffer``, for the capture service. Connects with the first commit."""
    if settings.buffer.kind != "redis":
        return AsyncPostgresBuffer(database_url, application_name="leads_capture writer")
    try:
        from leads_pipeline.buffer.redis_door import AsyncRedisBuffer  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigError(_NOT_INSTALLED) from None
    return AsyncRedisBuffer(**_redis_arguments(settings))


def open_async_depths(settings: Settings, database_url: str) -> AsyncDepths:
    """What waits in the buffer that takes new leads, for the capture service."""
    if settings.buffer.kind != "redis":
        return AsyncPostgresDepths(database_url, application_name="leads_capture bounds")
    try:
        from leads_pipeline.buffer.redis_door import AsyncRedisDepths  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigError(_NOT_INSTALLED) from None
    arguments = _redis_arguments(settings)
    return AsyncRedisDepths(arguments["url"], prefix=arguments["prefix"])


def open_redis_buffer(settings: Settings, *, seconds: float | None = None) -> "RedisBuffer | None":
    """The buffer in Redis, chosen or not; ``None`` where leads.yaml names none. Close it.

    ``seconds``: how long each of its answers may take, if that is shorter than usual.
    """
    if settings.buffer.redis is None:
        return None
    try:
        from leads_pipeline.buffer.redis_streams import RedisBuffer  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigError(_NOT_INSTALLED) from None
    return RedisBuffer(**_redis_arguments(settings), seconds=seconds)


def buffers_to_drain(settings: Settings, engine: sa.Engine) -> tuple[LeadBuffer, ...]:
    """Every buffer that may hold leads, in the order in which a lane is emptied. Close them.

    The one that takes no new leads comes first: its leads are older, and it only gets emptier, so it cannot keep the
    others waiting for long. PostgreSQL's is always among them, Redis while leads.yaml names it.
    """
    redis_buffer = open_redis_buffer(settings)
    if redis_buffer is None:
        return (PostgresBuffer(engine),)
    if settings.buffer.kind == "redis":
        return (PostgresBuffer(engine), redis_buffer)
    return (redis_buffer, PostgresBuffer(engine))


def prepare_buffer(settings: Settings, engine: sa.Engine, *, now: datetime) -> None:
    """What a service that takes leads does before it takes the first: ask Redis, if it is chosen, for its settings.

    Raises:
        ConfigError: Redis would lose leads; each fault says what to set.
        DatabaseUnavailable: Redis or PostgreSQL cannot be reached.
    """
    if settings.buffer.kind != "redis":
        return
    buffer = open_redis_buffer(settings)
    assert buffer is not None
    try:
        with engine.begin() as connection:
            buffer.introduce(connection, now=now)
    finally:
        buffer.close()


def _redis_arguments(settings: Settings) -> dict[str, Any]:
    configured = settings.buffer.redis
    assert configured is not None
    return {
        "url": configured.url.resolve().get_secret_value(),
        "prefix": configured.prefix,
        "key_seconds": int(timedelta(days=settings.retention.ingest_keys_days).total_seconds()),
        "accept_losing_a_second": configured.accept_losing_a_second,
    }
