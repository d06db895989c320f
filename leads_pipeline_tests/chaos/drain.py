"""A slow worker: moves leads out of the buffer, a chunk at a time, until it is killed.

python drain.py CONFIG PAUSE_SECONDS
"""

import contextlib
import os
import sys
import time
from datetime import UTC, datetime

import sqlalchemy as sa

from leads_pipeline.buffer.opening import buffers_to_drain
from leads_pipeline.config import Settings, database_url, load_settings
from leads_pipeline.domain.ids import BatchId, uuid7
from leads_pipeline.domain.stage import Chunk, Lane
from leads_pipeline.errors import LeadsError
from leads_pipeline.steps.raw_leads import move_raw_leads, tenants_waiting
from leads_pipeline.storage.database import engine_for

CHUNK_LEADS = 1_000


def main() -> None:
    settings, pause_seconds = load_settings(sys.argv[1]), float(sys.argv[2])
    url = database_url()
    assert url is not None
    engine = engine_for(url, application_name="chaos drain")
    while True:
        # The store is broken on purpose: what fails now is tried again.
        with contextlib.suppress(LeadsError, sa.exc.DBAPIError):
            drain_once(settings, engine)
        time.sleep(pause_seconds)


def drain_once(settings: Settings, engine: sa.Engine) -> int:
    """One chunk of every tenant that waits; how many leads were taken out of a buffer."""
    lanes, now, moved = tuple(Lane), datetime.now(UTC), 0
    with contextlib.ExitStack() as stack:
        buffers = buffers_to_drain(settings, engine)
        for buffer in buffers:
            stack.callback(buffer.close)
        with engine.connect() as connection:
            tenants = tenants_waiting(connection, lanes=lanes, now=now, buffers=buffers)
        for tenant in tenants:
            chunk = Chunk(
                tenant=tenant,
                lanes=lanes,
                limit=CHUNK_LEADS,
                batch_id=BatchId(uuid7(now)),
                runner_id=f"drain:{os.getpid()}",
                now=now,
            )
            moved += move_raw_leads(engine, chunk, buffers=buffers).taken
    return moved


if __name__ == "__main__":
    main()
