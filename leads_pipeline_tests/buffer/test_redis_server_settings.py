"""Which Redis is trusted with leads, and what is said when one takes nothing."""

import asyncio
from collections.abc import Callable

import pytest
import redis
import sqlalchemy as sa
import structlog.testing

from leads_pipeline.buffer.opening import open_async_buffer, prepare_buffer
from leads_pipeline.buffer.port import PostResult
from leads_pipeline.buffer.redis_connection import objections
from leads_pipeline.buffer.redis_door import AsyncRedisBuffer
from leads_pipeline.buffer.redis_streams import RedisBuffer
from leads_pipeline.config import BufferSettings, Settings
from leads_pipeline.errors import ConfigError, DatabaseUnavailable, Unavailability
from leads_pipeline_tests.buffer.contract import chunk_of, moved, new_lead
from leads_pipeline_tests.buffer.redis_server import RedisServer
from leads_pipeline_tests.conftest import NOW

Start = Callable[..., RedisServer]
GOOD = {
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
    "maxmemory-policy": "noeviction",
}
REDIS_7 = {"redis_version": "7.0.15", "aof_enabled": 1, "maxmemory_policy": "noeviction"}


def buffer_on(server: RedisServer, *, accept_losing_a_second: bool = False) -> RedisBuffer:
    return RedisBuffer(server.url, prefix="leads", key_seconds=60, accept_losing_a_second=accept_losing_a_second)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("appendfsync", "everysec", "appendfsync is everysec: set it to always"),
        ("appendonly", "no", "appendonly is no: set it to yes"),
        ("no_appendfsync_on_rewrite", "yes", "no-appendfsync-on-rewrite is yes: set it to no"),
    ],
)
def test_a_server_that_could_lose_a_second_is_refused_unless_that_is_accepted(
    own_redis: Start, setting: str, value: str, said: str
) -> None:
    server = own_redis(**{setting: value})
    with pytest.raises(ConfigError, match=said):
        buffer_on(server).verify()
    buffer = buffer_on(server, accept_losing_a_second=True)
    assert buffer.append([new_lead({"n": 1})], now=NOW)[0].result is PostResult.ACCEPTED


def test_a_server_that_throws_keys_away_when_full_is_refused_whatever_is_accepted(own_redis: Start) -> None:
    server = own_redis(maxmemory_policy="allkeys-lru")
    with pytest.raises(ConfigError, match="maxmemory-policy is allkeys-lru: when full it would throw leads away"):
        buffer_on(server, accept_losing_a_second=True).verify()


def test_a_server_whose_settings_cannot_be_seen_is_refused_unless_a_loss_is_accepted(own_redis: Start) -> None:
    server = own_redis(rename_command="CONFIG hidden")
    with pytest.raises(ConfigError, match="CONFIG is forbidden to this user, as on most managed services"):
        buffer_on(server).verify()
    buffer_on(server, accept_losing_a_second=True).verify()


@pytest.mark.parametrize(
    ("info", "said"),
    [
        ({"redis_version": "6.2.14"}, "it is Redis 6.2.14; version 7 or newer is needed"),
        ({"redis_version": "7.2.4", "valkey_version": "6.0.0"}, "it is Valkey 6.0.0; version 7 or newer is needed"),
        ({"redis_version": ""}, "it is Redis of an unknown version; version 7 or newer is needed"),
    ],
)
def test_an_old_server_is_refused(info: dict[str, str], said: str) -> None:
    assert objections(REDIS_7 | info, GOOD, accept_losing_a_second=False) == [said]


@pytest.mark.parametrize("info", [{}, {"valkey_version": "8.1.0"}, {"redis_version": "8.2.3"}])
def test_a_current_server_is_taken(info: dict[str, str]) -> None:
    assert objections(REDIS_7 | info, GOOD, accept_losing_a_second=False) == []


def test_the_capture_service_does_not_start_on_a_server_that_could_lose_leads(
    settings: Settings, engine: sa.Engine, own_redis: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_REDIS_URL", own_redis(appendfsync="everysec").url)
    chosen = BufferSettings.model_validate({"kind": "redis", "redis": {"url": {"env": "TEST_REDIS_URL"}}})
    with pytest.raises(ConfigError, match="cannot be trusted with leads"):
        prepare_buffer(settings.model_copy(update={"buffer": chosen}), engine, now=NOW)


def test_a_url_that_is_none_of_redis_is_not_repeated(
    settings: Settings, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_REDIS_URL", "http://user:secret@host")
    chosen = BufferSettings.model_validate({"kind": "redis", "redis": {"url": {"env": "TEST_REDIS_URL"}}})
    with pytest.raises(ConfigError, match="must look like redis://") as refused:
        open_async_buffer(settings.model_copy(update={"buffer": chosen}), database_url)
    assert "secret" not in str(refused.value)


# --- what takes nothing for now --------------------------------------------------------------------------------------


def _full(client: "redis.Redis") -> None:
    client.config_set("maxmemory", "1mb")


def _standby(client: "redis.Redis") -> None:
    client.replicaof("127.0.0.1", "1")


@pytest.mark.parametrize(
    ("trouble", "why", "said"),
    [
        (_full, Unavailability.DISK_FULL, "its memory is full"),
        (_standby, Unavailability.READ_ONLY, "it is a read-only replica"),
    ],
)
def test_a_server_that_takes_no_writes_is_unavailable_and_stores_nothing(
    own_redis: Start, trouble: Callable[["redis.Redis"], None], why: Unavailability, said: str
) -> None:
    server = own_redis()
    buffer = buffer_on(server)
    buffer.append([new_lead({"n": 1})], now=NOW)
    with server.client() as client:
        trouble(client)
        lead = new_lead({"n": 2})
        with pytest.raises(DatabaseUnavailable, match=said) as refused:
            buffer.append([lead], now=NOW)
        assert refused.value.why is why
        assert asyncio.run(_why_the_door_cannot(server)) is why
        client.replicaof("NO", "ONE")
        client.config_set("maxmemory", "0")
    assert buffer.append([lead], now=NOW)[0].result is PostResult.ACCEPTED
    assert sum(buffer.snapshot().captured.values()) == 2


async def _why_the_door_cannot(server: RedisServer) -> Unavailability | None:
    door = AsyncRedisBuffer(server.url, prefix="leads", key_seconds=60)
    try:
        await door.check()
    except DatabaseUnavailable as error:
        return error.why
    finally:
        await door.close()
    return None


def test_a_server_that_cannot_be_reached_is_named_so() -> None:
    buffer = RedisBuffer("redis://127.0.0.1:9/0", prefix="leads", key_seconds=60)
    with pytest.raises(DatabaseUnavailable, match="the buffer cannot be reached"):
        buffer.append([new_lead({"n": 1})], now=NOW)


def test_what_was_acknowledged_is_there_after_the_server_was_killed(own_redis: Start) -> None:
    server = own_redis()

    async def run() -> tuple[int, int]:
        door = AsyncRedisBuffer(server.url, prefix="leads", key_seconds=60)
        acknowledged, refused = 0, 0
        for number in range(300):
            if number == 150:
                server.kill()
            lead = new_lead({"n": number}).encoded()
            try:
                await door.append([lead], now=NOW)
            except DatabaseUnavailable:
                refused += 1
                server.start()
                [again] = await door.append([lead], now=NOW)  # the same key is safe to send again
                assert again.result is PostResult.ACCEPTED
            acknowledged += 1
        await door.close()
        return acknowledged, refused

    acknowledged, refused = asyncio.run(run())
    found = buffer_on(server).snapshot()
    assert refused == 1
    assert sum(found.waiting.values()) == sum(found.captured.values()) == acknowledged == 300


def test_a_server_that_came_back_without_durability_is_not_given_a_lead(own_redis: Start) -> None:
    server = own_redis()

    async def run() -> None:
        door = AsyncRedisBuffer(server.url, prefix="leads", key_seconds=60)
        await door.check()
        server.kill()
        with pytest.raises(DatabaseUnavailable):
            await door.check()
        server.start()
        with server.client() as client:
            client.config_set("appendfsync", "everysec")
        for _attempt in range(2):
            with pytest.raises(DatabaseUnavailable, match="appendfsync is everysec"):
                await door.append([new_lead({"n": 1}).encoded()], now=NOW)
        await door.close()

    with structlog.testing.capture_logs() as logs:
        asyncio.run(run())
    [told] = [entry for entry in logs if entry["event"] == "redis cannot be trusted"]  # once, or it fills the log
    assert "appendfsync is everysec" in told["because"][0]


def test_the_script_is_loaded_again_after_the_server_forgot_it(own_redis: Start) -> None:
    server = own_redis()
    buffer = buffer_on(server)
    buffer.append([new_lead({"n": 1})], now=NOW)
    with server.client() as client:
        client.script_flush()
    assert buffer.append([new_lead({"n": 2})], now=NOW)[0].result is PostResult.ACCEPTED


def test_a_server_that_does_not_answer_is_given_up(own_redis: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leads_pipeline.buffer.redis_connection.ANSWER_SECONDS", 0.3)
    server = own_redis()
    buffer = buffer_on(server)
    lead = new_lead({"n": 1})
    buffer.append([lead], now=NOW)
    server.pause()
    with pytest.raises(DatabaseUnavailable, match="the buffer cannot be reached"):
        buffer.append([lead], now=NOW)
    server.resume()
    assert buffer.append([lead], now=NOW)[0].result is PostResult.ACCEPTED
    assert sum(buffer.snapshot().captured.values()) == 1


def test_a_full_server_can_still_be_emptied(own_redis: Start, engine: sa.Engine) -> None:
    server = own_redis()
    buffer = buffer_on(server)
    buffer.append([new_lead({"n": n}) for n in range(20)], now=NOW)
    with server.client() as client:
        client.config_set("maxmemory", "1mb")
    with pytest.raises(DatabaseUnavailable):
        buffer.append([new_lead({"n": 20})], now=NOW)
    assert len(moved(engine, buffer, chunk_of())) == 20
    assert buffer.depths() == []
