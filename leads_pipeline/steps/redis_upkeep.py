"""What an operator does with a buffer in Redis: put back what was set aside, write off what was lost."""

import sqlalchemy as sa

from leads_pipeline.buffer.account import accept_loss
from leads_pipeline.buffer.opening import open_redis_buffer
from leads_pipeline.config import Settings
from leads_pipeline.domain.stage import Lane
from leads_pipeline.errors import NotFound


def put_back(settings: Settings, *, tenant: str) -> int:
    """Let a tenant's leads that were set aside wait again. Says how many.

    Raises:
        NotFound: leads.yaml names no Redis.
        DatabaseUnavailable: Redis does not answer.
    """
    buffer = open_redis_buffer(settings)
    if buffer is None:
        raise NotFound(f"{settings.path} names no buffer.redis")
    try:
        return buffer.put_back(tenant)
    finally:
        buffer.close()


def write_off(engine: sa.Engine, settings: Settings) -> dict[tuple[str, Lane], int]:
    """Accept that leads vanished from Redis, so that the law of conservation can be held to again.

    As ``buffer.account.accept_loss``.
    """
    return accept_loss(engine, settings=settings)
