"""What waits in front of every stage, in whichever buffer."""

from collections.abc import Sequence

import sqlalchemy as sa

from leads_pipeline.buffer.opening import open_redis_buffer
from leads_pipeline.buffer.port import BufferDepth
from leads_pipeline.config import Settings
from leads_pipeline.domain.stage import Lane, Stage
from leads_pipeline.errors import DatabaseUnavailable
from leads_pipeline.storage import measurements
from leads_pipeline.storage.measurements import Queue
from leads_pipeline.telemetry import get_logger


def intake_queues(connection: sa.Connection, *, settings: Settings) -> list[Queue]:
    """What waits in front of ``raw_leads``, in PostgreSQL and in Redis if leads.yaml names one.

    Raises:
        DatabaseUnavailable: Redis does not answer.
    """
    return with_buffered(measurements.queues(connection, [Stage.RAW_LEADS]), redis_depths(settings))


def redis_depths(settings: Settings, *, seconds: float | None = None) -> list[BufferDepth]:
    """What waits in Redis, per tenant and lane; nothing where leads.yaml names none.

    ``seconds``: how long it may take to answer, if that is shorter than usual.

    Raises:
        DatabaseUnavailable: Redis does not answer.
    """
    buffer = open_redis_buffer(settings, seconds=seconds)
    if buffer is None:
        return []
    try:
        return buffer.depths()
    finally:
        buffer.close()


class RedisWatch:
    """Whether leads wait in Redis, for a sensor. While Redis does not answer it says no, and logs that once.

    So a lost Redis does not stop what is past it; the asset check ``oldest_pending`` fails meanwhile.
    """

    def __init__(self, settings: Settings) -> None:
        self._tenants = frozenset(settings.tenants)
        self._buffer = open_redis_buffer(settings)

    def has_leads(self, *, lanes: Sequence[Lane]) -> bool:
        """Whether a run could take something of these lanes, of a tenant that is configured."""
        if self._buffer is None:
            return False
        try:
            return not self._tenants.isdisjoint(self._buffer.tenants_waiting(lanes=lanes))
        except DatabaseUnavailable as error:
            get_logger(__name__).warning("redis_unavailable", why=error.why)
            self.close()
            return False

    def close(self) -> None:
        """Let go of the connection."""
        if self._buffer is not None:
            self._buffer.close()
            self._buffer = None


def with_buffered(found: Sequence[Queue], depths: Sequence[BufferDepth]) -> list[Queue]:
    """``found``, with ``depths`` in front of the first stage. A tenant's lane stays one queue."""
    first = {(queue.tenant, queue.lane): queue for queue in found if queue.stage is Stage.RAW_LEADS}
    for depth in depths:
        known = first.get((depth.tenant, depth.lane))
        waiting, oldest = depth.waiting, depth.oldest_received_at
        if known is not None:
            waiting, oldest = waiting + known.waiting, min(oldest, known.oldest_since)
        first[depth.tenant, depth.lane] = Queue(Stage.RAW_LEADS, depth.tenant, depth.lane, waiting, oldest)
    urgency = list(Lane)
    intake = sorted(first.values(), key=lambda queue: (queue.tenant, urgency.index(queue.lane)))
    return [*intake, *(queue for queue in found if queue.stage is not Stage.RAW_LEADS)]
