"""What every buffer must do. An implementation's test module inherits ``BufferContract`` and gives it a ``buffer``."""

import asyncio
import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.buffer.port import (
    AsyncLeadBuffer,
    BufferDepth,
    LeadBuffer,
    Moved,
    NewLead,
    Posted,
    PostResult,
    content_key,
)
from leads_pipeline.domain.ids import BatchId, uuid7
from leads_pipeline.domain.posted_lead import PostedLead
from leads_pipeline.domain.stage import ALL_LANES, Chunk, Lane
from leads_pipeline_tests.conftest import NOW

ACCEPTED, DUPLICATE, KEY_REUSED = PostResult.ACCEPTED, PostResult.DUPLICATE, PostResult.KEY_REUSED


def new_lead(
    payload: dict[str, Any],
    *,
    key: str | None = None,
    tenant: str = "acme",
    source: str = "website",
    lane: Lane = Lane.REAL_TIME,
    consent: list[Any] | None = None,
    received_at: datetime = NOW,
) -> NewLead:
    """A lead as a door would make it; without ``key`` its content is its key."""
    key_hex, body_hex = content_key(PostedLead(payload, consent or []))
    return NewLead(
        lead_id=uuid7(received_at),
        tenant=tenant,
        source=source,
        lane=lane,
        received_at=received_at,
        key_hex=hashlib.sha256(key.encode()).hexdigest() if key else key_hex,
        body_hex=body_hex,
        payload=payload,
        consent=consent or [],
        context={"ip": "192.0.2.1", "user_agent": "test"},
    )


def chunk_of(
    tenant: str = "acme", *, limit: int = 100, lanes: tuple[Lane, ...] = ALL_LANES, now: datetime = NOW
) -> Chunk:
    return Chunk(
        tenant=tenant, lanes=lanes, limit=limit, batch_id=BatchId(uuid7(now)), runner_id="test-runner", now=now
    )


def captured(engine: sa.Engine) -> tuple[int, int]:
    """(captured, duplicates) as the buffer counted them."""
    statement = "select coalesce(sum(captured), 0), coalesce(sum(duplicates), 0) from capture_batches"
    with engine.connect() as connection:
        first, second = connection.execute(sa.text(statement)).one()
    return first, second


def waiting(engine: sa.Engine, buffer: LeadBuffer) -> int:
    with engine.connect() as connection:
        return sum(depth.waiting for depth in buffer.depths(connection))


def moved(engine: sa.Engine, buffer: LeadBuffer, chunk: Chunk) -> list[UUID]:
    """The ids of the new raw leads of a chunk that was committed and acknowledged."""
    with engine.begin() as connection:
        chunk_moved = buffer.move(connection, chunk)
    chunk_moved.acknowledge()
    return [lead.lead_id for lead in chunk_moved.leads]


@dataclass(frozen=True)
class Parts:
    """What a contract test is given."""

    buffer: LeadBuffer
    engine: sa.Engine
    captured: Callable[[], tuple[int, int]]  # (captured, duplicates) as the buffer counted them

    def append(self, *leads: NewLead) -> list[Posted]:
        return self.buffer.append(leads, now=NOW)


class ThroughTheDoor:
    """Appends as the capture service does, and leaves the rest to the steps' buffer."""

    def __init__(self, open_door: Callable[[], AsyncLeadBuffer], *, steps: LeadBuffer) -> None:
        self._open_door = open_door
        self._steps = steps

    def append(self, leads: Sequence[NewLead], *, now: datetime) -> list[Posted]:
        async def run() -> list[Posted]:
            door = self._open_door()
            try:
                return await door.append([lead.encoded() for lead in leads], now=now)
            finally:
                await door.close()

        return asyncio.run(run())

    def move(self, connection: sa.Connection, chunk: Chunk) -> Moved:
        return self._steps.move(connection, chunk)

    def tenants_waiting(self, connection: sa.Connection, *, lanes: Sequence[Lane]) -> list[str]:
        return self._steps.tenants_waiting(connection, lanes=lanes)

    def depths(self, connection: sa.Connection) -> list[BufferDepth]:
        return self._steps.depths(connection)

    def close(self) -> None:
        self._steps.close()


class BufferContract:
    """Inherit, and provide the fixture ``parts``."""

    def test_what_is_appended_comes_out_as_it_went_in(self, parts: Parts) -> None:
        lead = new_lead({"email": "ada@example.org", "n": 1.5}, consent=[{"granted": True}])
        assert parts.append(lead) == [Posted(ACCEPTED, lead.lead_id)]
        with parts.engine.begin() as connection:
            chunk = parts.buffer.move(connection, chunk_of())
        chunk.acknowledge()
        [out] = chunk.leads
        assert (chunk.taken, chunk.duplicates) == (1, 0)
        assert (out.lead_id, out.lane, out.received_at) == (lead.lead_id, lead.lane, NOW)
        assert (out.consent, out.context) == (lead.consent, lead.context)
        with parts.engine.connect() as connection:
            [row] = connection.execute(sa.text("select * from raw_leads"))
        assert (row.payload, row.context) == (lead.payload, lead.context)
        assert waiting(parts.engine, parts.buffer) == 0

    def test_a_known_key_gives_the_first_lead(self, parts: Parts) -> None:
        first, again = new_lead({"email": "a"}, key="k"), new_lead({"email": "a"}, key="k")
        other = new_lead({"email": "b"}, key="k")
        parts.append(first)
        assert parts.append(again, other) == [
            Posted(DUPLICATE, first.lead_id),
            Posted(KEY_REUSED, first.lead_id),
        ]
        assert waiting(parts.engine, parts.buffer) == 1
        assert parts.captured() == (1, 1)

    def test_a_key_is_known_after_its_lead_has_left_the_buffer(self, parts: Parts) -> None:
        first = new_lead({"email": "a"})
        parts.append(first)
        moved(parts.engine, parts.buffer, chunk_of())
        assert parts.append(new_lead({"email": "a"})) == [Posted(DUPLICATE, first.lead_id)]
        assert waiting(parts.engine, parts.buffer) == 0

    def test_of_equal_posts_in_one_commit_the_first_is_the_lead(self, parts: Parts) -> None:
        leads = [new_lead({"email": "a"}) for _ in range(8)]
        results = parts.append(*leads)
        assert [posted.result for posted in results] == [ACCEPTED, *[DUPLICATE] * 7]
        assert {posted.lead_id for posted in results} == {leads[0].lead_id}
        assert parts.captured() == (1, 7)

    def test_appending_again_after_a_lost_answer_counts_once(self, parts: Parts) -> None:
        lead = new_lead({"email": "a"})
        assert parts.append(lead) == parts.append(lead) == [Posted(ACCEPTED, lead.lead_id)]
        assert waiting(parts.engine, parts.buffer) == 1
        assert parts.captured() == (1, 0)

    def test_writers_that_race_for_the_same_keys_agree_on_the_leads(self, parts: Parts) -> None:
        groups = [[new_lead({"email": f"lead{n}"}) for n in order] for order in (range(200), range(199, -1, -1))]
        start = threading.Barrier(4)

        def write(group: list[NewLead]) -> list[Posted]:
            start.wait(timeout=30)
            return parts.append(*group)

        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(write, [*groups, *[[new_lead(lead.payload) for lead in g] for g in groups]]))
        leads = {posted.lead_id for group in results for posted in group}
        assert len(leads) == 200
        assert sum(posted.result is ACCEPTED for group in results for posted in group) == 200
        assert parts.captured() == (200, 600)
        assert waiting(parts.engine, parts.buffer) == 200

    def test_urgent_lanes_come_first_and_within_one_the_oldest(self, parts: Parts) -> None:
        def at(minute: int, lane: Lane) -> NewLead:
            return new_lead({"email": f"{minute}{lane}"}, lane=lane, received_at=NOW + timedelta(minutes=minute))

        batch, late, early = at(0, Lane.BATCH), at(3, Lane.REAL_TIME), at(1, Lane.REAL_TIME)
        near = at(2, Lane.NEAR_REAL_TIME)
        parts.append(batch, late, early, near)
        first = moved(parts.engine, parts.buffer, chunk_of(limit=3))
        assert sorted(first) == sorted([early.lead_id, late.lead_id, near.lead_id])
        assert moved(parts.engine, parts.buffer, chunk_of(lanes=(Lane.REAL_TIME,))) == []
        assert moved(parts.engine, parts.buffer, chunk_of()) == [batch.lead_id]

    def test_a_tenant_gets_its_own_leads_only(self, parts: Parts) -> None:
        parts.append(
            new_lead({"email": "a"}),
            new_lead({"email": "a"}, tenant="globex", lane=Lane.BATCH),
            new_lead({"email": "b"}),
        )
        with parts.engine.connect() as connection:
            assert parts.buffer.tenants_waiting(connection, lanes=ALL_LANES) == ["acme", "globex"]
            assert parts.buffer.tenants_waiting(connection, lanes=[Lane.REAL_TIME]) == ["acme"]
        assert len(moved(parts.engine, parts.buffer, chunk_of("acme"))) == 2
        with parts.engine.connect() as connection:
            assert parts.buffer.tenants_waiting(connection, lanes=ALL_LANES) == ["globex"]

    def test_two_workers_never_take_the_same_lead(self, parts: Parts) -> None:
        leads = [new_lead({"email": f"lead{n}"}) for n in range(10)]
        parts.append(*leads)
        with parts.engine.begin() as one, parts.engine.begin() as other:
            first = parts.buffer.move(one, chunk_of(limit=6))
            second = parts.buffer.move(other, chunk_of(limit=6))
        assert len(first.leads) == 6
        taken = [lead.lead_id for lead in [*first.leads, *second.leads]]
        assert sorted(taken) == sorted(lead.lead_id for lead in leads)

    def test_a_move_that_does_not_commit_leaves_the_leads_in_the_buffer(self, parts: Parts) -> None:
        lead = new_lead({"email": "a"})
        parts.append(lead)
        with parts.engine.connect() as connection:
            chunk = parts.buffer.move(connection, chunk_of())
            assert len(chunk.leads) == 1
            connection.rollback()
        chunk.release()
        assert waiting(parts.engine, parts.buffer) == 1
        assert moved(parts.engine, parts.buffer, chunk_of()) == [lead.lead_id]

    def test_depths_say_how_much_waits_and_since_when(self, parts: Parts) -> None:
        later = NOW + timedelta(seconds=5)
        parts.append(new_lead({"email": "a"}), new_lead({"email": "b"}, received_at=later))
        with parts.engine.connect() as connection:
            [depth] = parts.buffer.depths(connection)
        assert (depth.tenant, depth.lane, depth.waiting) == ("acme", Lane.REAL_TIME, 2)
        assert depth.oldest_received_at == NOW
