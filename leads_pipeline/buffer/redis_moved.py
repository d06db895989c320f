"""What one chunk took out of the streams, and what its leads look like to PostgreSQL and to the next step."""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
import sqlalchemy as sa

from leads_pipeline.buffer.port import BufferedLead, Moved
from leads_pipeline.buffer.redis_entries import Entry, Taken
from leads_pipeline.domain.stage import Chunk
from leads_pipeline.storage import redis_moves

if TYPE_CHECKING:
    from leads_pipeline.buffer.redis_streams import RedisBuffer


class RedisMoved(Moved):
    """What was taken from the streams. ``poison`` are the entries that PostgreSQL or we cannot read."""

    def __init__(
        self,
        buffer: "RedisBuffer",
        chunk: Chunk,
        leads: Sequence[BufferedLead],
        *,
        settled: Sequence[Taken],
        poison: Sequence[Taken],
        lead_ids: Sequence[UUID],
        note_id: UUID,
        earlier: Sequence[UUID],
        duplicates: int,
        name: str | None,
        engine: sa.Engine,
    ) -> None:
        super().__init__(leads, taken=len(settled) + len(poison), duplicates=duplicates)
        self._buffer = buffer
        self._chunk = chunk
        self._settled = settled
        self._poison = poison
        self._lead_ids = lead_ids
        self._note_id = note_id
        self._earlier = earlier
        self._name = name
        self._engine = engine

    def acknowledge(self) -> None:
        if self._poison:
            self._buffer.put_aside(self._chunk.tenant, self._poison, reason="unreadable")
        if not self._settled:
            return
        self._buffer.let_go(self._chunk.tenant, self._settled)
        with self._engine.begin() as connection:
            redis_moves.forget_acknowledged(connection, self._lead_ids, own=self._note_id, earlier=self._earlier)
            # Not in the chunk's transaction: the second worker to name a buffer would wait for the first one's commit.
            if self._name is not None and self._name != self._buffer.noted:
                redis_moves.note_incarnation(connection, self._name, now=self._chunk.now)
                self._buffer.noted = self._name

    def release(self) -> None:
        self._buffer.give_back(self._chunk.tenant, [*self._settled, *self._poison])

    def set_aside(self, reason: str) -> bool:
        self._buffer.put_aside(self._chunk.tenant, [*self._settled, *self._poison], reason=reason)
        return True


def new_row(entry: Entry) -> redis_moves.NewRow:
    """A lead as PostgreSQL is given it."""
    return redis_moves.NewRow(
        key=redis_moves.NewKey(entry.lead_id, entry.source, entry.key_hex, entry.body_hex, entry.received_at),
        lane=entry.lane,
        payload=bytes(entry.payload),
        context=bytes(entry.context),
    )


def buffered(entry: Entry) -> BufferedLead:
    """A lead as the next step is given it."""
    consent, context = bytes(entry.consent), bytes(entry.context)
    if consent == b"[]" and b'"reference"' not in context:
        return BufferedLead(entry.lead_id, entry.lane, entry.received_at, [], {})
    return BufferedLead(
        entry.lead_id, entry.lane, entry.received_at, msgspec.json.decode(consent), msgspec.json.decode(context)
    )
