"""The buffer in Redis Streams, through the steps' client and through the capture service's connection."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from leads_pipeline.buffer.account import take_account
from leads_pipeline.buffer.port import PostResult
from leads_pipeline.buffer.redis_door import AsyncRedisBuffer
from leads_pipeline.buffer.redis_streams import RedisBuffer
from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import BufferSettings, RedisSettings, SecretRef, Settings
from leads_pipeline.domain.stage import ALL_LANES, Chunk, Lane, Stage
from leads_pipeline.flows import FlowContext, StageFailed, drain
from leads_pipeline.steps.raw_leads import move_raw_leads
from leads_pipeline.storage import redis_moves
from leads_pipeline_tests.buffer.contract import BufferContract, Parts, ThroughTheDoor, chunk_of, moved, new_lead
from leads_pipeline_tests.buffer.redis_server import RedisServer
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.storage.sessions import sessions_end

KEY_SECONDS = 30 * 86_400


def redis_buffer(url: str, *, lease: timedelta = timedelta(minutes=1)) -> RedisBuffer:
    return RedisBuffer(url, prefix="leads", key_seconds=KEY_SECONDS, lease=lease)


def counted(buffer: RedisBuffer) -> tuple[int, int]:
    """(captured, duplicates) as the door's script counted them."""
    found = buffer.snapshot()
    return sum(found.captured.values()), sum(found.duplicates.values())


def through_the_door(url: str) -> ThroughTheDoor:
    return ThroughTheDoor(
        lambda: AsyncRedisBuffer(url, prefix="leads", key_seconds=KEY_SECONDS), steps=redis_buffer(url)
    )


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
        door = through_the_door(redis_url)
        yield Parts(door, engine, lambda: counted(steps))
        steps.close()
        door.close()


@pytest.fixture
def buffer(redis_url: str) -> Iterator[RedisBuffer]:
    """A buffer whose lease is over at once, as after a worker's death."""
    found = redis_buffer(redis_url, lease=timedelta(0))
    yield found
    found.close()


def rows(engine: sa.Engine, table: str) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(sa.text(f"select * from {table}")))


def left(buffer: RedisBuffer) -> int:
    return sum(depth.waiting for depth in buffer.depths())


# --- what is taken and not acknowledged ------------------------------------------------------------------------------


def test_a_worker_that_died_before_its_commit_leaves_the_leads_to_the_next(
    engine: sa.Engine, buffer: RedisBuffer
) -> None:
    leads = [new_lead({"n": n}) for n in range(10)]
    buffer.append(leads, now=NOW)
    with engine.connect() as connection:
        assert len(buffer.move(connection, chunk_of(limit=6)).leads) == 6  # and then it is gone: no commit, no release
        connection.rollback()
    assert sorted(moved(engine, buffer, chunk_of())) == sorted(lead.lead_id for lead in leads)
    assert left(buffer) == 0


def test_a_worker_that_died_after_its_commit_has_its_leads_neither_doubled_nor_validated_again(
    engine: sa.Engine, buffer: RedisBuffer
) -> None:
    buffer.append([new_lead({"n": n}) for n in range(10)], now=NOW)
    with engine.begin() as connection:
        buffer.move(connection, chunk_of(limit=6))
    assert left(buffer) == 10
    with engine.begin() as connection:
        again = buffer.move(connection, chunk_of())
    again.acknowledge()
    assert (again.taken, len(again.leads)) == (10, 4)
    assert left(buffer) == 0
    assert len(rows(engine, "raw_leads")) == 10
    assert rows(engine, "redis_unacknowledged") == []
    assert moves(engine) == (10, 0)


def test_what_a_living_worker_holds_is_not_given_to_another(engine: sa.Engine, redis_url: str) -> None:
    patient = redis_buffer(redis_url)
    patient.append([new_lead({"n": 1})], now=NOW)
    with engine.begin() as one, engine.begin() as other:
        first = patient.move(one, chunk_of())
        assert patient.move(other, chunk_of()).taken == 0
        assert patient.tenants_waiting(lanes=ALL_LANES) == []
    first.acknowledge()
    patient.close()


_WORKER = """
import os, signal, sys
from datetime import timedelta
import leads_pipeline.buffer.redis_streams as redis_streams
from leads_pipeline.steps.raw_leads import move_raw_leads
from leads_pipeline.storage.database import engine_for
from leads_pipeline_tests.buffer.contract import chunk_of
from leads_pipeline_tests.buffer.test_redis_streams import redis_buffer

def die(*_arguments, **_named):
    os.kill(os.getpid(), signal.SIGKILL)

setattr(redis_streams.RedisBuffer if sys.argv[3] == "let_go" else redis_streams.redis_moves, sys.argv[3], die)
buffer = redis_buffer(sys.argv[2])
move_raw_leads(engine_for(sys.argv[1]), chunk_of(), buffers=(buffer,))
"""


@pytest.mark.chaos
@pytest.mark.parametrize("point", ["note_unacknowledged", "let_go"])
def test_a_worker_killed_before_or_after_its_commit_loses_and_doubles_nothing(
    engine: sa.Engine, database_url: str, redis_url: str, buffer: RedisBuffer, point: str
) -> None:
    """``note_unacknowledged`` is the last thing before the commit, ``let_go`` the first thing after it."""
    buffer.append([new_lead({"n": n}, consent=[{"granted": True}]) for n in range(50)], now=NOW)
    command = [sys.executable, "-c", _WORKER, database_url, redis_url, point]
    with sessions_end(engine):
        worker = subprocess.run(command, timeout=120, check=False)
    assert worker.returncode == -signal.SIGKILL
    stored = 0 if point == "note_unacknowledged" else 50
    assert (len(rows(engine, "raw_leads")), left(buffer)) == (stored, 50)
    report = move_raw_leads(engine, chunk_of(), buffers=(buffer,))
    assert (report.taken, report.passed) == (50, 50 - stored)
    assert left(buffer) == 0
    assert len(rows(engine, "raw_leads")) == len(rows(engine, "pending")) == len(rows(engine, "consent_events")) == 50
    assert counted(buffer) == (50, 0)
    assert moves(engine) == (50, 0)


def test_workers_that_race_over_four_tenants_and_all_lanes_move_every_lead_once(
    engine: sa.Engine, redis_url: str
) -> None:
    tenants = ("acme", "globex", "initech", "umbrella")
    leads = [
        new_lead({"n": f"{n} {lane}"}, tenant=t, lane=lane) for n in range(50) for t in tenants for lane in ALL_LANES
    ]
    buffers = [redis_buffer(redis_url) for _ in range(3)]
    buffers[0].append(leads, now=NOW)

    def work(buffer: RedisBuffer) -> list[UUID]:
        found: list[UUID] = []
        while waiting := buffer.tenants_waiting(lanes=ALL_LANES):
            for tenant in waiting:
                found += moved(engine, buffer, chunk_of(tenant, limit=7))
        return found

    with ThreadPoolExecutor(3) as pool:
        results = [lead_id for found in pool.map(work, buffers) for lead_id in found]
    assert sorted(results) == sorted(lead.lead_id for lead in leads)
    assert left(buffers[0]) == 0
    assert moves(engine) == (600, 0)
    for buffer in buffers:
        buffer.close()


# --- entries that cannot be moved ------------------------------------------------------------------------------------


def test_an_entry_that_is_no_lead_is_set_aside_and_its_neighbours_go_on(
    engine: sa.Engine, buffer: RedisBuffer, redis_server: RedisServer
) -> None:
    buffer.append([new_lead({"n": n}) for n in range(5)], now=NOW)
    stream = buffer.keys.stream("acme", Lane.REAL_TIME)
    with redis_server.client() as client:
        client.xadd(stream, {"lead": b"not a lead"})
        client.xadd(stream, {"something": b"else"})
    buffer.append([new_lead({"n": n}) for n in range(5, 10)], now=NOW)
    assert len(moved(engine, buffer, chunk_of())) == 10
    assert left(buffer) == 0
    assert buffer.snapshot().aside == {("acme", Lane.REAL_TIME): 2}


def test_a_lead_that_postgresql_refuses_is_set_aside_and_can_be_put_back(
    engine: sa.Engine, buffer: RedisBuffer, redis_server: RedisServer
) -> None:
    leads = [new_lead({"n": str(n)}) for n in range(9)]
    leads[4] = new_lead({"n": "a\x00b"})
    poison = leads[4].encoded().json
    assert buffer.append(leads, now=NOW)[4].result is PostResult.UNSTORABLE
    with redis_server.client() as client:  # as an older version of the door would have let it in
        client.xadd(buffer.keys.stream("acme", Lane.REAL_TIME), {"lead": poison})
    assert len(moved(engine, buffer, chunk_of())) == 8
    assert left(buffer) == 0
    assert buffer.put_back("acme") == 1
    assert left(buffer) == 1
    assert moved(engine, buffer, chunk_of()) == []
    assert buffer.snapshot().aside == {("acme", Lane.REAL_TIME): 1}


def test_a_lead_on_which_the_step_breaks_is_set_aside_by_itself(
    engine: sa.Engine, redis_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_REDIS_URL", redis_url)
    redis_settings = RedisSettings(url=SecretRef(env="TEST_REDIS_URL"))
    chosen = settings.model_copy(update={"buffer": BufferSettings(kind="redis", redis=redis_settings)})
    buffer = redis_buffer(redis_url)
    leads = [new_lead({"n": n}) for n in range(20)]
    leads[7] = new_lead({"n": 7}, consent=[{"granted": True}])
    buffer.append(leads, now=NOW)

    def breaks(_connection: sa.Connection, said: list[object], _chunk: Chunk) -> tuple[int, int]:
        if said:
            raise ZeroDivisionError
        return 0, 0

    monkeypatch.setattr("leads_pipeline.steps.raw_leads.keep_consent", breaks)
    context = FlowContext(engine, chosen, FrozenClock(NOW))
    with pytest.raises(StageFailed, match="acme failed with ZeroDivisionError") as failed:
        drain(context, Stage.RAW_LEADS, lanes=ALL_LANES, runner_id="test")
    assert failed.value.summary.counts["set_aside"] == 1
    assert len(rows(engine, "raw_leads")) == 19
    assert left(buffer) == 0
    monkeypatch.undo()
    monkeypatch.setenv("TEST_REDIS_URL", redis_url)
    assert buffer.put_back("acme") == 1
    drain(context, Stage.RAW_LEADS, lanes=ALL_LANES, runner_id="test")
    assert len(rows(engine, "raw_leads")) == 20
    assert take_account(engine, settings=chosen).conserved
    buffer.close()


# --- keys ------------------------------------------------------------------------------------------------------------


def test_a_key_is_kept_for_its_time(buffer: RedisBuffer, redis_server: RedisServer) -> None:
    buffer.append([new_lead({"n": 1})], now=NOW)
    with redis_server.client() as client:
        [key] = list(client.scan_iter(match="{leads}:post:*"))
        assert KEY_SECONDS - 60 < client.ttl(key) <= KEY_SECONDS


def test_a_lead_that_was_accepted_twice_for_want_of_its_key_is_one_lead(
    engine: sa.Engine, buffer: RedisBuffer, redis_server: RedisServer
) -> None:
    first = new_lead({"email": "ada@example.org"})
    buffer.append([first], now=NOW)
    assert moved(engine, buffer, chunk_of()) == [first.lead_id]
    with redis_server.client() as client:
        client.delete(*client.scan_iter(match="{leads}:post:*"))
    assert buffer.append([new_lead({"email": "ada@example.org"})], now=NOW)[0].result is PostResult.ACCEPTED
    assert moved(engine, buffer, chunk_of()) == []
    assert moves(engine) == (1, 1)
    assert left(buffer) == 0


def test_another_body_that_was_accepted_under_a_known_key_is_not_dropped(
    engine: sa.Engine, buffer: RedisBuffer, redis_server: RedisServer
) -> None:
    buffer.append([new_lead({"email": "a"}, key="k")], now=NOW)
    moved(engine, buffer, chunk_of())
    with redis_server.client() as client:
        client.delete(*client.scan_iter(match="{leads}:post:*"))
    other = new_lead({"email": "b"}, key="k")
    buffer.append([other], now=NOW)
    assert moved(engine, buffer, chunk_of()) == [other.lead_id]


def test_a_commit_of_a_thousand_leads_and_eight_megabytes_fits(buffer: RedisBuffer) -> None:
    leads = [new_lead({"n": n, "message": "x" * 8_000}) for n in range(1_000)]
    results = buffer.append(leads, now=NOW)
    assert {posted.result for posted in results} == {PostResult.ACCEPTED}
    assert counted(buffer) == (1_000, 0)


def moves(engine: sa.Engine) -> tuple[int, int]:
    """(moved, duplicates) as they were counted with the raw leads."""
    with engine.connect() as connection:
        found = redis_moves.moves(connection)
    return sum(move.moved for move in found), sum(move.duplicates for move in found)
