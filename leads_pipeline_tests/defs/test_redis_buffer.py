"""Dagster with a buffer in Redis: the sensor sees it, the checks judge it, a run empties it."""

from collections.abc import Iterator

import dagster as dg
import pytest
import sqlalchemy as sa

from leads_pipeline.buffer.opening import open_lead_buffer
from leads_pipeline.buffer.redis_streams import RedisBuffer
from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import BufferSettings, Settings
from leads_pipeline.defs.local_run import LocalRun, run_until_idle, still_waiting
from leads_pipeline.defs.sensors import leads_waiting
from leads_pipeline.domain.stage import Lane
from leads_pipeline.errors import DatabaseUnavailable
from leads_pipeline.flows import FlowContext
from leads_pipeline_tests.buffer.contract import new_lead
from leads_pipeline_tests.buffer.redis_server import RedisServer
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.defs.conftest import verdicts


@pytest.fixture
def flow_context(
    engine: sa.Engine, crm_settings: Settings, clock: FrozenClock, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> FlowContext:
    monkeypatch.setenv("TEST_REDIS_URL", redis_url)
    chosen = BufferSettings.model_validate({"kind": "redis", "redis": {"url": {"env": "TEST_REDIS_URL"}}})
    return FlowContext(engine=engine, settings=crm_settings.model_copy(update={"buffer": chosen}), clock=clock)


@pytest.fixture
def buffer(flow_context: FlowContext) -> Iterator[RedisBuffer]:
    found = open_lead_buffer(flow_context.settings, flow_context.engine)
    assert isinstance(found, RedisBuffer)
    yield found
    found.close()


def tick(instance: dg.DagsterInstance, flow_context: FlowContext) -> dg.RunRequest | dg.SkipReason:
    context = dg.build_sensor_context(instance=instance, resources={"flow": flow_context})
    found = leads_waiting(context)
    assert isinstance(found, dg.RunRequest | dg.SkipReason)
    return found


def test_a_lead_that_waits_in_redis_starts_a_run_which_takes_it(
    instance: dg.DagsterInstance, flow_context: FlowContext, buffer: RedisBuffer, run, engine: sa.Engine
) -> None:
    assert isinstance(tick(instance, flow_context), dg.SkipReason)
    buffer.append([new_lead({"email": "ada@example.org"})], now=NOW)
    request = tick(instance, flow_context)
    assert isinstance(request, dg.RunRequest)
    assert request.tags["leads/due"] == "raw_leads"
    assert run("near_real_time").success
    assert buffer.depths() == []
    assert isinstance(tick(instance, flow_context), dg.SkipReason)
    assert all(verdicts(run("slo_checks")).values())


def test_the_batch_lane_in_redis_is_left_to_its_schedule(
    instance: dg.DagsterInstance, flow_context: FlowContext, buffer: RedisBuffer
) -> None:
    buffer.append([new_lead({"n": 1}, lane=Lane.BATCH)], now=NOW)
    assert isinstance(tick(instance, flow_context), dg.SkipReason)


def test_a_redis_that_is_gone_does_not_keep_the_sensor_from_the_rest(
    instance: dg.DagsterInstance, flow_context: FlowContext, seeding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_REDIS_URL", "redis://127.0.0.1:9/0")
    with seeding() as flow:
        flow.buffered()
    assert isinstance(tick(instance, flow_context), dg.RunRequest)


def test_leads_that_wait_too_long_in_redis_break_the_slo(
    flow_context: FlowContext, buffer: RedisBuffer, run, clock: FrozenClock
) -> None:
    buffer.append([new_lead({"n": 1})], now=NOW)
    clock.advance(3_600)
    failed = [name for name, passed in verdicts(run("slo_checks")).items() if not passed]
    assert failed == ["raw_leads.oldest_pending"]


@pytest.mark.parametrize("command", ["xtrim", "flushall"])
def test_leads_that_vanish_from_redis_fail_the_conservation_check(
    flow_context: FlowContext, buffer: RedisBuffer, run, redis_server: RedisServer, engine: sa.Engine, command: str
) -> None:
    buffer.append([new_lead({"n": n}) for n in range(3)], now=NOW)
    with engine.begin() as connection:
        buffer.introduce(connection, now=NOW)
    assert all(verdicts(run("slo_checks")).values())
    with redis_server.client() as client:
        if command == "flushall":
            client.flushall()
        else:
            client.xtrim(buffer.keys.stream("acme", Lane.REAL_TIME), maxlen=2, approximate=False)
    result = run("slo_checks")
    assert {name for name, passed in verdicts(result).items() if not passed} == {
        "crm_sync_batches.conservation",
        "crm_sync_batches.slo_conservation",
    }
    [found] = [item for item in result.get_asset_check_evaluations() if item.check_name == "conservation"]
    assert found.description is not None
    assert "Redis" in found.description


def test_leads_run_takes_what_waits_in_redis_alone(
    definitions: dg.Definitions, instance: dg.DagsterInstance, flow_context: FlowContext, buffer: RedisBuffer
) -> None:
    buffer.append([new_lead({"email": "ada@example.org"})], now=NOW)
    runs: list[LocalRun] = []
    run_until_idle(
        definitions.resolve_job_def("near_real_time"),
        instance,
        flow_context,
        limit_seconds=600,
        on_run=lambda run, _waiting: runs.append(run),
    )
    assert len(runs) == 1
    assert buffer.depths() == []


def test_a_redis_that_is_gone_is_told_of_when_nothing_else_is_left_to_run(
    flow_context: FlowContext, seeding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_REDIS_URL", "redis://127.0.0.1:9/0")
    with pytest.raises(DatabaseUnavailable):
        still_waiting(flow_context)
    with seeding() as flow:
        flow.buffered()
    assert still_waiting(flow_context).count == 1
