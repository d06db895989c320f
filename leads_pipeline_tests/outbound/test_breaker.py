"""The circuit breaker's states, on a real database, and one probe at a time however many ask."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa

from leads_pipeline.config import BreakerSettings
from leads_pipeline.outbound.breaker import Breaker, BreakerState, failed, may_send, read_breakers, succeeded
from leads_pipeline.storage.database import engine_for
from leads_pipeline_tests.conftest import NOW

POLICY = BreakerSettings(failures=3, pause_seconds=60, max_pause_seconds=200)
CALLERS = 20


def after(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def fail(engine: sa.Engine, *, at: float = 0, name: str = "zb", reason: str = "broken") -> BreakerState:
    with engine.begin() as connection:
        return failed(connection, name, reason=reason, policy=POLICY, now=NOW + after(at))


def ask(engine: sa.Engine, *, at: float = 0, name: str = "zb") -> bool:
    with engine.begin() as connection:
        return may_send(connection, name, policy=POLICY, now=NOW + after(at))


def succeed(engine: sa.Engine, *, at: float = 0, name: str = "zb") -> None:
    with engine.begin() as connection:
        succeeded(connection, name, now=NOW + after(at))


def breaker(engine: sa.Engine, name: str = "zb") -> Breaker:
    with engine.connect() as connection:
        (found,) = read_breakers(connection, name)
    return found


def opened(engine: sa.Engine) -> None:
    for _failure in range(POLICY.failures):
        fail(engine)


def test_an_unknown_breaker_lets_everything_through(engine: sa.Engine) -> None:
    assert ask(engine)
    with engine.connect() as connection:
        assert read_breakers(connection) == []


def test_it_opens_with_the_last_of_so_many_failures_in_a_row(engine: sa.Engine) -> None:
    assert [fail(engine), fail(engine)] == [BreakerState.CLOSED] * 2
    assert ask(engine)
    succeed(engine)
    assert [fail(engine), fail(engine), fail(engine, at=1, reason="lost")] == [
        BreakerState.CLOSED, BreakerState.CLOSED, BreakerState.OPEN,
    ]  # fmt: skip
    assert breaker(engine) == Breaker("zb", BreakerState.OPEN, 3, "lost", NOW + after(1), NOW + after(61))
    assert not ask(engine, at=60.9)


def test_one_failure_is_enough_where_the_policy_says_so(engine: sa.Engine) -> None:
    at_once = BreakerSettings(failures=1, pause_seconds=300, max_pause_seconds=300)
    with engine.begin() as connection:
        assert failed(connection, "zb", reason="refused", policy=at_once, now=NOW) is BreakerState.OPEN
    assert breaker(engine).next_probe_at == NOW + after(300)


def test_a_probe_is_for_one_and_its_success_closes(engine: sa.Engine) -> None:
    opened(engine)
    assert ask(engine, at=60)
    assert breaker(engine).state is BreakerState.PROBING
    assert not ask(engine, at=61)
    succeed(engine, at=62)
    assert breaker(engine) == Breaker("zb", BreakerState.CLOSED, 0, None, None, None)
    assert ask(engine, at=62)


def test_each_failed_probe_doubles_the_pause_up_to_the_longest(engine: sa.Engine) -> None:
    opened(engine)
    at, pauses = 0.0, []
    for _probe in range(4):
        found = breaker(engine)
        assert found.next_probe_at is not None
        pauses.append((found.next_probe_at - NOW).total_seconds() - at)
        at += pauses[-1]
        assert ask(engine, at=at)
        assert fail(engine, at=at) is BreakerState.OPEN
    assert pauses == [60, 120, 200, 200]
    assert breaker(engine).opened_at == NOW  # when the trouble began


def test_a_probe_whose_caller_died_is_anothers_after_the_pause(engine: sa.Engine) -> None:
    opened(engine)
    assert ask(engine, at=60)
    assert not ask(engine, at=119)
    assert ask(engine, at=120)


def test_what_was_under_way_when_it_opened_makes_nobody_wait_longer(engine: sa.Engine) -> None:
    opened(engine)
    for _late in range(20):
        assert fail(engine, at=30) is BreakerState.OPEN
    assert breaker(engine) == Breaker("zb", BreakerState.OPEN, 3, "broken", NOW, NOW + after(60))


def test_one_breaker_is_none_of_anothers_business(engine: sa.Engine) -> None:
    opened(engine)
    fail(engine, name="kb")
    assert ask(engine, name="kb")
    assert not ask(engine, name="zb", at=1)
    with engine.connect() as connection:
        assert [(item.name, item.state) for item in read_breakers(connection)] == [
            ("kb", BreakerState.CLOSED), ("zb", BreakerState.OPEN),
        ]  # fmt: skip


@pytest.mark.parametrize("_round", range(3))
def test_of_twenty_callers_at_once_exactly_one_may_probe(engine: sa.Engine, database_url: str, _round: int) -> None:
    opened(engine)
    ready = threading.Barrier(CALLERS)
    many = engine_for(database_url, pool_size=CALLERS)

    def call(_caller: int) -> bool:
        with many.begin() as connection:
            ready.wait(timeout=30)
            return may_send(connection, "zb", policy=POLICY, now=NOW + after(60))

    with ThreadPoolExecutor(CALLERS) as pool:
        answers = list(pool.map(call, range(CALLERS)))
    many.dispose()
    assert answers.count(True) == 1
