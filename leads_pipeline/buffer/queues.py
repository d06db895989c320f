"""What waits in front of every stage, in whichever buffer."""

from collections.abc import Sequence

import sqlalchemy as sa

from leads_pipeline.buffer.opening import open_redis_buffer
from leads_pipeline.buffer.port import BufferDepth
from leads_pipeline.config import Settings
from leads_pipeline.domain.stage import Lane, Stage
from leads_pipeline.storage import measurements
from leads_pipeline.storage.measurements import Queue


def queues(connection: sa.Connection, *, settings: Settings) -> list[Queue]:
    """As ``storage.measurements.queues``, with what waits in Redis if leads.yaml names one.

    Raises:
        DatabaseUnavailable: Redis does not answer.
    """
    return with_buffered(measurements.queues(connection), redis_depths(settings))


def redis_depths(settings: Settings) -> list[BufferDepth]:
    """What waits in Redis, per tenant and lane; nothing where leads.yaml names none."""
    buffer = open_redis_buffer(settings)
    if buffer is None:
        return []
    try:
        return buffer.depths()
    finally:
        buffer.close()


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
