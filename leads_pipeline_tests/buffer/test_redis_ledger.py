"""The law of conservation where leads wait in Redis: what vanishes there is noticed."""

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from leads_pipeline.buffer.account import Account, take_account
from leads_pipeline.buffer.opening import buffers_to_drain, open_lead_buffer, prepare_buffer
from leads_pipeline.buffer.port import LeadBuffer, Moved, NewLead
from leads_pipeline.buffer.postgresql import PostgresBuffer
from leads_pipeline.buffer.redis_streams import RedisBuffer
from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import BufferSettings, RedisSettings, SecretRef, Settings
from leads_pipeline.domain.stage import ALL_LANES, Lane, LeadState, Stage
from leads_pipeline.flows import FlowContext, StageFailed, drain
from leads_pipeline.steps.raw_leads import move_raw_leads
from leads_pipeline.steps.redis_upkeep import write_off
from leads_pipeline.storage.pending import Waiting, enqueue
from leads_pipeline_tests.buffer.contract import chunk_of, new_lead
from leads_pipeline_tests.buffer.redis_server import RedisServer
from leads_pipeline_tests.conftest import NOW

URL_VARIABLE = "TEST_REDIS_URL"


@pytest.fixture
def on_redis(settings: Settings, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings with new leads going into Redis."""
    monkeypatch.setenv(URL_VARIABLE, redis_url)
    return choosing(settings, "redis")


@pytest.fixture
def buffer(on_redis: Settings, engine: sa.Engine) -> Iterator[RedisBuffer]:
    found = open_lead_buffer(on_redis, engine)
    assert isinstance(found, RedisBuffer)
    yield found
    found.close()


def choosing(settings: Settings, kind: str) -> Settings:
    """The settings with a Redis, and this buffer for new leads."""
    redis = RedisSettings(url=SecretRef(env=URL_VARIABLE))
    return settings.model_copy(update={"buffer": BufferSettings.model_validate({"kind": kind, "redis": redis})})


def drained(engine: sa.Engine, settings: Settings) -> int:
    """How many raw leads a run of the first stage made."""
    context = FlowContext(engine, settings, FrozenClock(NOW))
    return drain(context, Stage.RAW_LEADS, lanes=ALL_LANES, runner_id="test").passed


def append(buffer: LeadBuffer, *leads: NewLead) -> None:
    buffer.append(leads, now=NOW)


def committed(engine: sa.Engine, buffer: LeadBuffer, *, limit: int) -> Moved:
    """A chunk that the first step has committed, and not acknowledged yet."""
    with engine.begin() as connection:
        chunk = buffer.move(connection, chunk_of(limit=limit))
        waiting = (Waiting(lead.lead_id, "acme", lead.lane, revision=1, since=NOW) for lead in chunk.leads)
        enqueue(connection, Stage.VALIDATED_LEADS, waiting)
    return chunk


def states(account: Account, tenant: str = "acme") -> tuple[int, int, int]:
    """(captured, pending, dead) of a tenant."""
    [found] = [item for item in account.tenants if item.tenant == tenant]
    return found.captured, found.states[LeadState.PENDING], found.states[LeadState.DEAD]


# --- the law ---------------------------------------------------------------------------------------------------------


def test_a_lead_is_pending_in_redis_and_after_it(on_redis: Settings, engine: sa.Engine, buffer: RedisBuffer) -> None:
    append(buffer, *(new_lead({"n": n}) for n in range(5)), new_lead({"n": 1}))
    append(buffer, *(new_lead({"n": n}, tenant="globex", lane=Lane.BATCH) for n in range(3)))
    account = take_account(engine, settings=on_redis)
    assert account.conserved
    assert (states(account), states(account, "globex")) == ((5, 5, 0), (3, 3, 0))
    move_raw_leads(engine, chunk_of(limit=2), buffers=(buffer,))
    account = take_account(engine, settings=on_redis)
    assert account.conserved
    assert (states(account), states(account, "globex")) == ((5, 5, 0), (3, 3, 0))


def test_a_chunk_between_its_commit_and_its_acknowledgement_is_counted_once(
    on_redis: Settings, engine: sa.Engine, buffer: RedisBuffer
) -> None:
    append(buffer, *(new_lead({"n": n}) for n in range(5)))
    chunk = committed(engine, buffer, limit=3)
    account = take_account(engine, settings=on_redis)
    assert (account.conserved, states(account)) == (True, (5, 5, 0))
    chunk.acknowledge()
    account = take_account(engine, settings=on_redis)
    assert (account.conserved, states(account)) == (True, (5, 5, 0))


def test_what_was_set_aside_is_dead_until_it_is_put_back(
    on_redis: Settings, engine: sa.Engine, buffer: RedisBuffer
) -> None:
    append(buffer, *(new_lead({"n": n}) for n in range(3)))
    with engine.connect() as connection:
        chunk = buffer.move(connection, chunk_of(limit=1))
        connection.rollback()
    assert chunk.set_aside("ZeroDivisionError")
    account = take_account(engine, settings=on_redis)
    assert (account.conserved, states(account)) == (True, (3, 2, 1))
    buffer.put_back("acme")
    account = take_account(engine, settings=on_redis)
    assert (account.conserved, states(account)) == (True, (3, 3, 0))


@pytest.mark.parametrize("after_a_chunk", [False, True])
def test_an_entry_that_vanishes_breaks_the_law(
    on_redis: Settings, engine: sa.Engine, buffer: RedisBuffer, redis_server: RedisServer, after_a_chunk: bool
) -> None:
    append(buffer, *(new_lead({"n": n}) for n in range(5)))
    if after_a_chunk:
        move_raw_leads(engine, chunk_of(limit=2), buffers=(buffer,))
    stream = buffer.keys.stream("acme", Lane.REAL_TIME)
    with redis_server.client() as client:
        [(first, _fields)] = client.xrange(stream, count=1)
        client.xdel(stream, first)
    account = take_account(engine, settings=on_redis)
    assert not account.conserved
    assert account.faults == ("1 leads of acme, lane real_time, vanished from Redis",)
    [acme] = account.tenants
    assert acme.unaccounted == 1


def _flush(server: RedisServer) -> None:
    with server.client() as client:
        client.flushall()


def _trim(server: RedisServer) -> None:
    with server.client() as client:
        client.xtrim("{leads}:stream:acme:real_time", maxlen=0, approximate=False)


@pytest.mark.parametrize("loss", [_flush, _trim])
def test_an_emptied_redis_breaks_the_law_also_when_new_leads_came(
    on_redis: Settings,
    engine: sa.Engine,
    buffer: RedisBuffer,
    redis_server: RedisServer,
    loss: Callable[[RedisServer], None],
) -> None:
    prepare_buffer(on_redis, engine, now=NOW)
    append(buffer, *(new_lead({"n": n}) for n in range(5)))
    assert take_account(engine, settings=on_redis).conserved
    loss(redis_server)
    assert not take_account(engine, settings=on_redis).conserved
    append(buffer, new_lead({"n": 6}))
    assert not take_account(engine, settings=on_redis).conserved
    drained(engine, on_redis)
    assert not take_account(engine, settings=on_redis).conserved
    write_off(engine, on_redis)
    assert take_account(engine, settings=on_redis).conserved


def test_the_account_can_be_taken_while_the_door_and_a_worker_are_busy(
    on_redis: Settings, engine: sa.Engine, buffer: RedisBuffer
) -> None:
    for round_number in range(20):
        append(buffer, *(new_lead({"n": f"{round_number} {n}"}) for n in range(20)))
        chunk = committed(engine, buffer, limit=15)
        assert take_account(engine, settings=on_redis).conserved
        chunk.acknowledge()
        assert take_account(engine, settings=on_redis).conserved


# --- switching -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), [("postgresql", "redis"), ("redis", "postgresql")])
def test_switching_drains_the_old_buffer_and_a_repost_makes_no_second_lead(
    settings: Settings, on_redis: Settings, engine: sa.Engine, before: str, after: str
) -> None:
    old, new = (open_lead_buffer(choosing(settings, kind), engine) for kind in (before, after))
    append(old, *(new_lead({"n": n}) for n in range(10)))
    move_raw_leads(engine, chunk_of(limit=4), buffers=(old,))
    append(new, *(new_lead({"n": n}) for n in range(12)))  # each of the old ones again, six of them still in flight
    chosen = choosing(settings, after)
    drained(engine, chosen)
    with engine.connect() as connection:
        stored = connection.execute(sa.text("select count(*), count(distinct payload) from raw_leads")).one()
        waiting = [depth for each in buffers_to_drain(chosen, engine) for depth in each.depths(connection)]
    assert (tuple(stored), waiting) == ((12, 12), [])
    account = take_account(engine, settings=chosen)
    assert (account.conserved, states(account)) == (True, (12, 12, 0))
    old.close()
    new.close()


def test_redis_is_asked_for_nothing_where_leads_yaml_does_not_name_it(settings: Settings, engine: sa.Engine) -> None:
    assert [type(buffer) for buffer in buffers_to_drain(settings, engine)] == [PostgresBuffer]


def test_the_account_holds_after_redis_was_emptied_by_work_and_taken_out_of_leads_yaml(
    settings: Settings, on_redis: Settings, engine: sa.Engine, buffer: RedisBuffer
) -> None:
    append(buffer, *(new_lead({"n": n}) for n in range(5)))
    drained(engine, on_redis)
    account = take_account(engine, settings=settings)
    assert (account.conserved, states(account)) == (True, (5, 5, 0))


def test_leads_left_in_a_redis_that_leads_yaml_names_no_more_are_missed(
    settings: Settings, on_redis: Settings, engine: sa.Engine, buffer: RedisBuffer
) -> None:
    append(buffer, *(new_lead({"n": n}) for n in range(5)))
    move_raw_leads(engine, chunk_of(limit=2), buffers=(buffer,))
    account = take_account(engine, settings=settings)
    assert not account.conserved
    assert "3 leads of acme, source website, lane real_time, waited in Redis" in account.faults[0]


def test_what_postgresql_holds_goes_on_while_redis_is_lost(
    settings: Settings, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL_VARIABLE, "redis://127.0.0.1:9/0")
    append(PostgresBuffer(engine), new_lead({"n": 1}))
    with pytest.raises(StageFailed, match="a buffer that cannot be reached") as failed:
        drained(engine, choosing(settings, "redis"))
    assert failed.value.summary.taken == 1
