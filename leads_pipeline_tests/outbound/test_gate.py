"""Waiting for a grant: by the clock that is given, until the deadline, or until the run is told to stop."""

import threading
import time
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import DailyLimit, RequestLimits, WindowLimit
from leads_pipeline.domain.delivery import QuotaReading, Unit
from leads_pipeline.domain.stage import Lane
from leads_pipeline.errors import AccountParked
from leads_pipeline.outbound import limiter_state
from leads_pipeline.outbound.gate import STOPPING, Entry, Gate
from leads_pipeline.outbound.limiter import Ask, Grant, Limiter, Wait, WaitReason
from leads_pipeline.outbound.limiter_state import SlotLog
from leads_pipeline_tests.conftest import NOW


def _gate(
    engine: sa.Engine,
    clock: FrozenClock,
    *,
    requests: int = 1,
    daily: int | None = None,
    run_seconds: float = 60,
    by_the_database: bool = False,
) -> Gate:
    limits = RequestLimits(
        windows=(WindowLimit(requests=requests, seconds=1),), daily=DailyLimit(requests=daily) if daily else None
    )
    limiter = Limiter(engine, account="a", limits=limits, clock=None if by_the_database else clock)
    return Gate(limiter, clock=clock, deadline=clock.monotonic() + run_seconds, stopping=threading.Event())


def test_a_full_window_is_waited_for(engine: sa.Engine) -> None:
    clock = FrozenClock(NOW, on_sleep=time.sleep)  # the limiter goes by the database's clock, which nobody can move
    gate = _gate(engine, clock, by_the_database=True)
    first, second = gate.enter(), gate.enter()
    assert second.grant.stamp - first.grant.stamp > 1000
    assert gate.waited_seconds == pytest.approx(sum(clock.slept))


def test_a_wait_past_the_deadline_parks_at_once(engine: sa.Engine, clock: FrozenClock) -> None:
    gate = _gate(engine, clock, run_seconds=0.5)
    gate.enter()
    with pytest.raises(AccountParked) as parked:
        gate.enter()
    assert parked.value.reason == WaitReason.WINDOW
    assert clock.slept == []


def test_a_spent_day_parks_until_it_resets(engine: sa.Engine, clock: FrozenClock) -> None:
    gate = _gate(engine, clock, requests=10, daily=1)
    gate.enter()
    with pytest.raises(AccountParked) as parked:
        gate.enter()
    assert parked.value.reason == WaitReason.DAILY
    assert (parked.value.until.hour, parked.value.until.minute) == (0, 0)


def test_a_run_that_stops_gives_no_more_grants(engine: sa.Engine, clock: FrozenClock) -> None:
    gate = _gate(engine, clock, requests=10)
    gate._stopping.set()
    with pytest.raises(AccountParked) as parked:
        gate.enter()
    assert parked.value.reason == STOPPING


def test_an_answer_that_asks_for_a_pause_stops_everyone(engine: sa.Engine, clock: FrozenClock) -> None:
    gate, other = _gate(engine, clock, requests=10), _gate(engine, clock, requests=10)
    gate.answered(gate.enter(), pause_seconds=3600)
    with pytest.raises(AccountParked) as parked:
        other.enter()
    assert parked.value.reason == WaitReason.PAUSED
    assert timedelta(minutes=59) < parked.value.until - clock.now() <= timedelta(hours=1)


@pytest.mark.parametrize(("took", "moved"), [(0.01, False), (0.4, True)])
def test_only_an_answer_later_than_the_margin_moves_the_grant(
    took: float, moved: bool, engine: sa.Engine, clock: FrozenClock
) -> None:
    gate = _gate(engine, clock, requests=10)
    entry = gate.enter()
    clock.advance(took)
    gate.answered(entry)
    with engine.connect() as connection:
        log = connection.execute(sa.text("select grants ->> 'api/requests/1' from rate_limits")).scalar_one()
    assert (SlotLog.read(log).times[0] > entry.grant.stamp) is moved


def test_a_request_that_left_late_is_moved_once_and_moves_no_other(engine: sa.Engine, clock: FrozenClock) -> None:
    limiter = Limiter(
        engine,
        account="a",
        limits=RequestLimits(windows=(WindowLimit(requests=9, seconds=1),), daily=None),
        clock=clock,
    )
    gate = Gate(limiter, clock=clock, deadline=60, stopping=threading.Event())
    gate.enter()
    entry = gate.enter()
    clock.advance(0.1)
    gate.leaving(entry)
    clock.advance(0.3)
    gate.answered(entry, throttled=True)
    with engine.connect() as connection:
        log = connection.execute(sa.text("select grants ->> 'api/requests/1' from rate_limits")).scalar_one()
    assert SlotLog.read(log) == SlotLog((entry.grant.stamp, entry.grant.stamp + 100), (1, 1))


def test_what_an_answer_says_is_left_holds_for_everybody(engine: sa.Engine, clock: FrozenClock) -> None:
    gate, other = _gate(engine, clock, requests=10, run_seconds=0.5), _gate(engine, clock, requests=10, run_seconds=0.5)
    entry = gate.enter()
    gate.answered(entry, throttled=True, readings=(QuotaReading(Unit.REQUESTS, 1, 10, 0),))
    with pytest.raises(AccountParked) as parked:
        other.enter()
    assert parked.value.reason == WaitReason.WINDOW


def test_a_lane_that_is_kept_back_parks_until_more_is_let_go(engine: sa.Engine, clock: FrozenClock) -> None:
    limits = RequestLimits(windows=(), daily=DailyLimit(requests=1), reserve=1)
    limiter = Limiter(engine, account="a", limits=limits, clock=clock)
    gate = Gate(limiter, clock=clock, deadline=clock.monotonic() + 60, stopping=threading.Event())
    with pytest.raises(AccountParked) as parked:
        gate.enter(Ask(lane=Lane.BATCH))
    assert parked.value.reason == WaitReason.RESERVE
    assert parked.value.until == NOW + timedelta(hours=1)
    gate.enter(Ask(lane=Lane.REAL_TIME))
    with pytest.raises(AccountParked) as spent:
        gate.enter(Ask(lane=Lane.REAL_TIME))
    assert (spent.value.reason, spent.value.until) == (WaitReason.DAILY, NOW + timedelta(hours=12))


def test_a_request_under_way_keeps_the_next_one_waiting_until_it_is_answered(engine: sa.Engine) -> None:
    limits = RequestLimits(windows=(), daily=None, shared_in_flight=1)
    entries: list[Entry] = []
    # Whoever waits sleeps by this clock, and meanwhile the answer comes.
    clock = FrozenClock(NOW, on_sleep=lambda _seconds: gate.answered(entries[0]))
    gate = Gate(Limiter(engine, account="a", limits=limits), clock=clock, deadline=60, stopping=threading.Event())
    entries.append(gate.enter())
    gate.enter()
    assert len(clock.slept) == 1


def test_the_wait_for_the_limiter_s_row_makes_no_request_late(
    engine: sa.Engine, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight processes queue for the row; the stamp is taken when it was had."""
    limiter = Limiter(engine, account="a", limits=RequestLimits())
    gate = Gate(limiter, clock=clock, deadline=60, stopping=threading.Event())
    taken = limiter.acquire

    def acquire(ask: Ask) -> Grant | Wait:
        clock.advance(0.3)
        answer = taken(ask)
        assert isinstance(answer, Grant)
        return replace(answer, waited_seconds=0.29)

    monkeypatch.setattr(limiter, "acquire", acquire)
    entry = gate.enter()
    gate.answered(entry)
    with engine.connect() as connection:
        log = connection.execute(sa.text("select grants ->> 'api/requests/10' from rate_limits")).scalar_one()
    assert SlotLog.read(log).times == (entry.grant.stamp,)


def test_whoever_waits_for_a_window_that_no_answer_speaks_of_locks_the_limiter_s_row_a_few_times_only(
    engine: sa.Engine, clock: FrozenClock
) -> None:
    """100 in 2 s are full, and it is the 300 in 10 s of which answers say that others use half."""
    limits = RequestLimits(
        windows=(WindowLimit(requests=100, seconds=2), WindowLimit(requests=300, seconds=10)), daily=None
    )
    limiter = Limiter(engine, account="a", limits=limits, clock=clock)
    gate = Gate(limiter, clock=clock, deadline=60, stopping=threading.Event())
    gate.answered(gate.enter(), readings=(QuotaReading(Unit.REQUESTS, 10, 300, 149),))
    clock.advance(3)
    while isinstance(limiter.peek(), Grant):
        gate.enter()
    locked: list[str] = []

    def count(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        if "for update" in statement:
            locked.append(statement)

    sa.event.listen(engine, "before_cursor_execute", count)
    gate.enter()
    assert gate.waited_seconds == pytest.approx(2.05, abs=0.01)
    assert len(locked) == 2


def test_when_a_request_left_late_is_written_by_its_answer_if_somebody_stood_still_with_the_row(
    engine: sa.Engine, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiter_state, "LOCK_TIMEOUT", "20ms")
    limits = RequestLimits(windows=(WindowLimit(requests=1, seconds=10),), daily=None)
    limiter = Limiter(engine, account="a", limits=limits, clock=clock)
    gate = Gate(limiter, clock=clock, deadline=60, stopping=threading.Event())
    entry = gate.enter()
    clock.advance(9.9)
    with engine.begin() as holder:
        holder.execute(sa.text("select from rate_limits for update"))
        gate.leaving(entry)
    assert not entry.has_left
    gate.answered(entry)
    clock.advance(0.2)
    assert isinstance(limiter.acquire(), Wait)


def test_the_time_that_the_row_was_waited_for_is_gone_when_the_deadline_is_judged(
    engine: sa.Engine, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter = Limiter(engine, account="a", limits=RequestLimits())
    gate = Gate(limiter, clock=clock, deadline=10, stopping=threading.Event())

    def busy(_ask: Ask) -> Wait:
        clock.advance(9.5)
        return Wait(1.0, WaitReason.BUSY)

    monkeypatch.setattr(limiter, "acquire", busy)
    with pytest.raises(AccountParked) as parked:
        gate.enter()
    assert (parked.value.reason, clock.slept) == (WaitReason.BUSY, [])
