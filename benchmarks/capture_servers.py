"""The servers that ``capture.py`` compares: they differ in what happens between judging a lead and answering."""

import asyncio
import gc

from leads_pipeline.buffer.port import EncodedLead, Posted, PostResult
from leads_pipeline.buffer.postgresql import AsyncPostgresBuffer
from leads_pipeline.capture.app import CaptureApp
from leads_pipeline.capture.door import Door, Sender
from leads_pipeline.capture.server import listen, server_for
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import database_url, load_settings
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.posted_lead import PostedLead

FLOOR, ACK, SINGLE = "floor", "ack", "single"
SINGLE_CONNECTIONS = 16


def run_server(kind: str, *, port: int) -> None:
    """Serve until SIGTERM, with the door's own server and application."""
    url = database_url()
    assert url is not None
    settings = load_settings()
    server = server_for(settings, database_url=url, clock=SystemClock())
    app = server.config.app
    assert isinstance(app, CaptureApp)
    if kind == FLOOR:
        answer_at_once(app.door)
    elif kind == SINGLE:
        insert_one_by_one(app.door, url)
    gc.collect()  # as the service does: a collection that walks all imports is a pause of a tenth of a second
    gc.freeze()
    with listen("127.0.0.1", port) as listening:
        server.run(sockets=[listening])


# Both take methods of the running door's own objects away, and nothing else: what is compared is the same server.


def answer_at_once(door: Door) -> None:
    """No idempotency key, no envelope, no commit: the lead was read and judged, and that is all."""

    def encode(sender: Sender, _lead: PostedLead, **_more: object) -> EncodedLead:
        return EncodedLead(uuid7(door.clock.now()), sender.way.tenant, sender.way.lane, b"")

    async def submit_one(lead: EncodedLead) -> Posted:
        return Posted(PostResult.ACCEPTED, lead.lead_id)

    door.encode = encode  # type: ignore[method-assign,assignment]
    door.commits.submit_one = submit_one  # type: ignore[method-assign]


def insert_one_by_one(door: Door, url: str) -> None:
    """A transaction for each lead, on as many connections as a pool would have."""
    buffers = [AsyncPostgresBuffer(url, application_name=f"single {n}") for n in range(SINGLE_CONNECTIONS)]
    free: asyncio.Queue[AsyncPostgresBuffer] = asyncio.Queue()
    for buffer in buffers:
        free.put_nowait(buffer)

    async def submit_one(lead: EncodedLead) -> Posted:
        buffer = await free.get()
        try:
            [posted] = await buffer.append([lead], now=door.clock.now())
        finally:
            free.put_nowait(buffer)
        return posted

    door.commits.submit_one = submit_one  # type: ignore[method-assign]
