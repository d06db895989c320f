"""What the limiter's row remembers, in a real database and for several processes."""

import os
import subprocess
import sys
import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import DailyLimit, EndpointClassLimits, RequestLimits, WindowLimit
from leads_pipeline.domain.delivery import QuotaReading, Unit
from leads_pipeline.domain.stage import Lane
from leads_pipeline.outbound import limiter_state
from leads_pipeline.outbound.limiter import Ask, Grant, Limiter, Seen, Wait, WaitReason
from leads_pipeline.outbound.limiter_state import Day, SlotLog, WindowKey, look
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.outbound.blocked import until_somebody_is_blocked

LIMITS = RequestLimits(
    windows=(WindowLimit(requests=100, seconds=2), WindowLimit(credits=300, seconds=86_400)),
    daily=DailyLimit(requests=1_000, time_zone="Europe/Vienna"),
    endpoint_classes={"search": EndpointClassLimits(windows=(WindowLimit(requests=5, seconds=1),), separate=True)},
    shared_in_flight=8,
)
ASK = Ask(cost={Unit.REQUESTS: 1, Unit.CREDITS: 10})


@given(steps=st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 10**6)), max_size=60))
def test_a_log_is_read_as_it_was_written(steps: list[tuple[int, int]]) -> None:
    log, now = SlotLog(), 1_768_478_400_000
    for gap, count in steps:
        now += gap
        log = log.plus(now, count, slot_ms=20)
    assert SlotLog.read(log.write()) == log
    assert SlotLog.read([[ms, count] for ms, count in zip(log.times, log.counts, strict=True)]) == log


def test_rows_of_the_time_before_units_and_classes_are_read() -> None:
    assert WindowKey.read("10") == WindowKey("api", Unit.REQUESTS, 10)
    key = WindowKey("crm/objects", Unit.CREDITS, 86_400)
    assert WindowKey.read(str(key)) == key


def _granted(limiter: Limiter, ask: Ask = ASK) -> Grant:
    answer = limiter.acquire(ask)
    assert isinstance(answer, Grant)
    return answer


def test_another_process_finds_all_that_was_learned(engine: sa.Engine, clock: FrozenClock) -> None:
    limiter = Limiter(engine, account="a", limits=LIMITS, clock=clock)
    readings = (
        QuotaReading(Unit.REQUESTS, 2, 100, 69),
        QuotaReading(Unit.CREDITS, 86_400, 300, 200),
        QuotaReading(Unit.REQUESTS, None, 900, 800),
    )
    limiter.answered(_granted(limiter), Seen(throttled=True, readings=readings))
    search = _granted(limiter, Ask(endpoint_class="search"))
    limiter.answered(search, Seen(pause_seconds=3))
    _granted(limiter)
    with engine.connect() as connection:
        state = look(connection, "a", "api").state
    requests, rolling = WindowKey("api", Unit.REQUESTS, 2), WindowKey("api", Unit.CREDITS, 86_400)
    assert {key: log.total for key, log in state.logs.items()} == {
        requests: 2,
        rolling: 20,
        WindowKey("search", Unit.REQUESTS, 1): 1,
    }
    assert state.day is not None
    assert state.day == Day(
        "2026-01-15 Europe/Vienna", used=3, foreign=99, stated=900, read_at=round(NOW.timestamp() * 1000), limit=1_000
    )
    assert (state.foreign[requests].measured, state.foreign[rolling].measured) == (30, 90)
    assert state.class_pauses == {"search": round(NOW.timestamp() * 1000) + 3_000}
    assert len(state.in_flight) == 1
    assert (state.scale, state.scaled_at) == (0.7, NOW)


def _written_at(engine: sa.Engine) -> object:
    with engine.connect() as connection:
        return connection.execute(sa.text("select xmin::text, updated_at from rate_limits")).one()


def test_an_answer_that_says_nothing_is_not_written_where_requests_under_way_are_not_limited(
    engine: sa.Engine,
) -> None:
    limiter = Limiter(engine, account="a", limits=RequestLimits(windows=LIMITS.windows, daily=None))
    grant = _granted(limiter)
    before = _written_at(engine)
    limiter.answered(grant, Seen())
    limiter.answered(grant, Seen(readings=(QuotaReading(Unit.REQUESTS, 2, 100, 99),)))  # as much as we knew
    assert _written_at(engine) == before
    limiter.answered(grant, Seen(readings=(QuotaReading(Unit.REQUESTS, 2, 100, 50),)))
    assert _written_at(engine) != before


def test_an_answer_that_teaches_nothing_locks_nobody_out(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiter_state, "LOCK_TIMEOUT", "20ms")
    limiter = Limiter(engine, account="a", limits=RequestLimits(windows=LIMITS.windows, daily=LIMITS.daily))
    grant = _granted(limiter)
    limiter.answered(grant, Seen(readings=(QuotaReading(Unit.REQUESTS, None, 1_000, 999),)))
    refused: list[object] = []
    sa.event.listen(engine, "handle_error", refused.append)
    with engine.begin() as holder:
        holder.execute(sa.text("select from rate_limits for update"))
        readings = (QuotaReading(Unit.REQUESTS, 2, 100, 99), QuotaReading(Unit.REQUESTS, None, 1_000, 999))
        limiter.answered(grant, Seen(readings=readings))
    assert refused == []


def test_whoever_stands_still_with_the_row_holds_up_no_caller_for_ever(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiter_state, "LOCK_TIMEOUT", "20ms")
    limiter = Limiter(engine, account="a", limits=LIMITS)
    grant = _granted(limiter)
    with engine.begin() as holder:
        holder.execute(sa.text("select from rate_limits for update"))
        answer = limiter.acquire(ASK)
        limiter.answered(grant, Seen(throttled=True))  # the answer itself must be settled all the same
        limiter.answered(grant, Seen(late=True))
        assert not limiter.arrived(grant)
        limiter.give_back(grant)
    assert isinstance(answer, Wait)
    assert answer.reason is WaitReason.BUSY
    _granted(limiter)


def test_when_a_late_request_came_in_is_written_as_soon_as_the_row_is_free(
    engine: sa.Engine, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiter_state, "LOCK_TIMEOUT", "20ms")
    limits = RequestLimits(windows=(WindowLimit(requests=1, seconds=10),), daily=None)
    limiter = Limiter(engine, account="a", limits=limits, clock=clock)
    grant = _granted(limiter)
    clock.advance(9.9)
    holder = engine.connect()
    holder.execute(sa.text("select from rate_limits for update"))
    sa.event.listen(engine, "handle_error", lambda _context: holder.close())
    limiter.answered(grant, Seen(late=True))
    assert holder.closed, "the row was held at first"
    clock.advance(0.2)
    assert isinstance(limiter.acquire(), Wait)


def test_the_wait_for_the_row_is_told_so_that_a_grant_is_not_taken_for_late(engine: sa.Engine) -> None:
    limiter = Limiter(engine, account="a", limits=LIMITS)
    _granted(limiter)
    grants: list[Grant] = []
    with engine.begin() as holder:
        holder.execute(sa.text("select from rate_limits for update"))
        waiting = threading.Thread(target=lambda: grants.append(_granted(limiter)))
        waiting.start()
        until_somebody_is_blocked(engine)
        blocked_ms = _database_ms(holder)
        while (released_ms := _database_ms(holder)) - blocked_ms < 2:
            pass
    waiting.join()
    assert grants[0].waited_seconds * 1000 >= released_ms - blocked_ms
    assert grants[0].stamp >= int(released_ms)


def _database_ms(connection: sa.Connection) -> float:
    return float(connection.execute(sa.text("select extract(epoch from clock_timestamp()) * 1000")).scalar_one())


def test_the_plan_says_what_is_left_for_whom_and_until_when(engine: sa.Engine, clock: FrozenClock) -> None:
    limits = RequestLimits(windows=LIMITS.windows[:1], daily=DailyLimit(requests=100), reserve=0.2)
    limiter = Limiter(engine, account="a", limits=limits, clock=clock)
    grant = _granted(limiter)
    limiter.answered(grant, Seen(pause_seconds=60, readings=(QuotaReading(Unit.REQUESTS, None, 100, 70),)))
    plan = limiter.plan({Lane.REAL_TIME: 5, Lane.NEAR_REAL_TIME: 20})
    assert plan.budget is not None
    assert (plan.budget.limit, plan.budget.used, plan.budget.foreign, plan.budget.left) == (100, 1, 29, 70)
    assert plan.budget.resets_at == NOW + timedelta(hours=12)
    assert plan.allowances == {Lane.REAL_TIME: 70, Lane.NEAR_REAL_TIME: 60, Lane.BATCH: 45}
    assert plan.paused_until == NOW + timedelta(seconds=60)
    assert Limiter(engine, account="b", limits=LIMITS).plan().paused_until is None


def test_the_tightest_budget_is_the_one_that_is_told(engine: sa.Engine, clock: FrozenClock) -> None:
    limits = RequestLimits(
        windows=(WindowLimit(requests=50, seconds=86_400),), daily=DailyLimit(requests=100), reserve=0.2
    )
    plan = Limiter(engine, account="a", limits=limits, clock=clock).plan()
    assert plan.budget is not None
    assert (plan.budget.left, plan.budget.resets_at) == (50, None)
    assert plan.allowances[Lane.BATCH] == 40


def test_the_plan_of_a_budget_in_credits_says_what_is_granted_whatever_requests_are_expected(
    engine: sa.Engine, clock: FrozenClock
) -> None:
    limits = RequestLimits(
        windows=(WindowLimit(credits=1_000, seconds=86_400), WindowLimit(requests=900, seconds=86_400)),
        daily=None,
        reserve=0,
    )
    expected = {Lane.REAL_TIME: 890}
    limiter = Limiter(engine, account="a", limits=limits, clock=clock, forecast=lambda: expected)
    _granted(limiter, Ask(cost={Unit.REQUESTS: 1, Unit.CREDITS: 700}))
    plan = limiter.plan(expected)
    assert plan.budget is not None
    assert (plan.budget.unit, plan.budget.left, plan.allowances[Lane.BATCH]) == (Unit.CREDITS, 300, 300)
    _granted(limiter, Ask(cost={Unit.REQUESTS: 1, Unit.CREDITS: 300}, lane=Lane.BATCH))


def test_an_account_without_a_day_has_no_budget(engine: sa.Engine) -> None:
    limits = RequestLimits(windows=LIMITS.windows[:1], daily=None)
    assert Limiter(engine, account="a", limits=limits).plan().budget is None


def test_the_forecast_is_asked_for_lanes_that_may_be_kept_back(engine: sa.Engine, clock: FrozenClock) -> None:
    limits = RequestLimits(windows=LIMITS.windows[:1], daily=DailyLimit(requests=100), reserve=0)
    asked = []

    def forecast() -> dict[Lane, int]:
        asked.append(True)
        return {Lane.REAL_TIME: 100}

    limiter = Limiter(engine, account="a", limits=limits, clock=clock, forecast=forecast)
    _granted(limiter)
    _granted(limiter, Ask(lane=Lane.REAL_TIME))
    assert asked == []
    for answer in (limiter.acquire(Ask(lane=Lane.BATCH)), limiter.peek(Ask(lane=Lane.BATCH))):
        assert isinstance(answer, Wait)
        assert answer.reason is WaitReason.RESERVE
    assert len(asked) == 2


def test_several_processes_share_the_limit_of_requests_under_way(engine: sa.Engine, database_url: str) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("create table under_way (process integer, request integer)"))
        connection.execute(sa.text("create table ready (process integer)"))
    command = [sys.executable, "-m", "leads_pipeline_tests.outbound.in_flight_process", "4", "25", "2"]
    environment = {**os.environ, "LIMITER_DATABASE_URL": database_url}
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _process in range(4)]
    most = [int(process.communicate(timeout=120)[0]) for process in running]
    assert max(most) == 2
    with engine.connect() as connection:
        assert look(connection, "shared", "api").state.in_flight == {}
