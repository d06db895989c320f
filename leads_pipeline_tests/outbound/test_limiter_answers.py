"""What answers teach the limiter: pauses, resets, the day's quota, and how hard to push."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.config import DailyLimit, EndpointClassLimits, RequestLimits, WindowLimit
from leads_pipeline.domain.delivery import QuotaReading, Unit
from leads_pipeline.outbound.answers import SLOWEST, after_answer
from leads_pipeline.outbound.limiter import Ask, Grant, LimiterState, Seen, Wait, WaitReason, decide
from leads_pipeline.outbound.windows import current_scale
from leads_pipeline_tests.conftest import NOW

LIMITS = RequestLimits(windows=(WindowLimit(requests=100, seconds=10),), daily=DailyLimit(requests=1_000))
FULL = QuotaReading(Unit.REQUESTS, 10, 100, 0)


def _sent(state: LimiterState, *, now: datetime = NOW, limits: RequestLimits = LIMITS, ask: Ask | None = None):
    answer, state = decide(state, now=now, limits=limits, ask=ask or Ask())
    assert isinstance(answer, Grant)
    return answer, state


def _after(seen: Seen, *, state: LimiterState | None = None, now: datetime = NOW, limits: RequestLimits = LIMITS):
    grant, state = _sent(state or LimiterState(), now=now, limits=limits)
    return after_answer(state, grant, seen, now=now, limits=limits)


def _wait(state: LimiterState, *, now: datetime = NOW, limits: RequestLimits = LIMITS, ask: Ask | None = None) -> Wait:
    answer, _state = decide(state, now=now, limits=limits, ask=ask or Ask())
    assert isinstance(answer, Wait)
    return answer


def _grants_at(state: LimiterState, now: datetime, *, limits: RequestLimits = LIMITS) -> int:
    granted = 0
    while isinstance((decided := decide(state, now=now, limits=limits))[0], Grant):
        granted, state = granted + 1, decided[1]
    return granted


def test_a_refusal_that_no_count_explains_makes_us_use_less_of_the_short_windows() -> None:
    state = _after(Seen(throttled=True))
    assert _grants_at(state, NOW + timedelta(seconds=11)) == 70
    assert _grants_at(state, NOW + timedelta(seconds=20)) == 80
    assert _grants_at(state, NOW + timedelta(seconds=60)) == 100


def test_refusals_of_the_same_time_slow_us_down_once() -> None:
    state = _after(Seen(throttled=True))
    state = _after(Seen(throttled=True), state=state, now=NOW + timedelta(seconds=9))
    assert state.scale == pytest.approx(0.7)
    state = _after(Seen(throttled=True), state=state, now=NOW + timedelta(seconds=11))
    assert state.scale == pytest.approx(0.49)


def test_a_refusal_whose_answer_says_which_window_was_full_teaches_the_others_use_instead() -> None:
    state = _after(Seen(throttled=True, readings=(FULL,)))
    assert state.scale == 1
    assert _wait(state).seconds > 9


@given(waits=st.lists(st.integers(0, 40), max_size=60))
def test_the_scale_stays_within_its_bounds_and_comes_back_to_the_whole(waits: list[int]) -> None:
    state, now = LimiterState(), NOW
    for wait in waits:
        now += timedelta(seconds=wait)
        grant = Grant(round(now.timestamp() * 1000))
        state = after_answer(state, grant, Seen(throttled=True), now=now, limits=LIMITS)
        assert SLOWEST <= current_scale(state, now=now, limits=LIMITS) <= 1
    assert current_scale(state, now=now + timedelta(seconds=180), limits=LIMITS) == 1


def test_a_budget_of_24_hours_is_not_scaled() -> None:
    limits = RequestLimits(windows=(WindowLimit(requests=50, seconds=86_400),), daily=None, reserve=0)
    state = _after(Seen(throttled=True), limits=limits)
    assert _grants_at(state, NOW, limits=limits) == 49


def test_a_pause_holds_for_all_and_the_longest_wins() -> None:
    state = _after(Seen(pause_seconds=60))
    grant = Grant(round(NOW.timestamp() * 1000))
    state = after_answer(state, grant, Seen(pause_seconds=5), now=NOW, limits=LIMITS)
    assert (_wait(state).reason, _wait(state).seconds) == (WaitReason.PAUSED, 60)


def test_a_pause_that_a_class_with_limits_of_its_own_was_told_is_for_that_class() -> None:
    limits = RequestLimits(
        windows=LIMITS.windows,
        endpoint_classes={"search": EndpointClassLimits(windows=(WindowLimit(requests=5, seconds=1),))},
    )
    search = Ask(endpoint_class="search")
    grant, state = _sent(LimiterState(), limits=limits, ask=search)
    state = after_answer(state, grant, Seen(pause_seconds=30), now=NOW, limits=limits)
    assert _wait(state, limits=limits, ask=search).seconds == 30
    assert isinstance(decide(state, now=NOW, limits=limits)[0], Grant)
    assert isinstance(decide(state, now=NOW + timedelta(seconds=30), limits=limits, ask=search)[0], Grant)


def test_a_spent_day_is_waited_out() -> None:
    state = _after(Seen(throttled=True, until_reset=True))
    assert state.paused_until == datetime(2026, 1, 16, tzinfo=UTC)
    assert state.scale == 1


def test_a_refusal_that_comes_after_midnight_for_a_request_of_the_day_before_costs_no_day() -> None:
    """Else a request that was under way at midnight would park the account for 24 hours."""
    before = datetime(2026, 1, 15, 23, 59, 59, tzinfo=UTC)
    grant, state = _sent(LimiterState(), now=before)
    now = before + timedelta(seconds=2)
    state = after_answer(state, grant, Seen(until_reset=True), now=now, limits=LIMITS)
    assert state.paused_until == now + timedelta(minutes=1)


def test_a_vendor_whose_midnight_is_a_little_late_costs_no_day() -> None:
    state = _after(Seen(until_reset=True), now=datetime(2026, 1, 16, 0, 0, 20, tzinfo=UTC))
    assert state.paused_until == datetime(2026, 1, 16, 0, 1, 20, tzinfo=UTC)


def test_a_spent_quota_of_24_hours_on_end_is_asked_about_every_quarter_of_an_hour() -> None:
    limits = RequestLimits(windows=(WindowLimit(requests=5_000, seconds=86_400),), daily=None)
    assert _after(Seen(until_reset=True), limits=limits).paused_until == NOW + timedelta(minutes=15)


def _day_left(remaining: int, *, limit: int | None = 1_000) -> Seen:
    return Seen(readings=(QuotaReading(Unit.REQUESTS, None, limit, remaining),))


def test_what_others_used_of_the_day_is_not_ours_to_spend() -> None:
    state = _after(_day_left(3))
    assert _grants_at(state, NOW) == 3
    state = _after(_day_left(1), state=state)  # read anew with each answer: they have used one more
    assert _grants_at(state, NOW) == 1
    granted, state = _sent(state)
    assert granted.counted_today == 3
    assert _wait(state).reason is WaitReason.DAILY


def test_a_day_that_answers_say_is_spent_is_asked_about_by_one_request_every_quarter_of_an_hour() -> None:
    state = _after(_day_left(0))
    wait = _wait(state, now=NOW + timedelta(minutes=5))
    assert (wait.reason, wait.seconds, wait.resets_at) == (WaitReason.DAILY, 600, NOW + timedelta(minutes=15))
    later = NOW + timedelta(minutes=15)
    grant, state = _sent(state, now=later)
    assert _wait(state, now=later).seconds == 900
    again = after_answer(state, grant, _day_left(0), now=later, limits=LIMITS)
    assert _wait(again, now=later).seconds == 900
    state = after_answer(state, grant, _day_left(500), now=later, limits=LIMITS)
    assert _grants_at(state, later) == 99, "what is left of the window"


def test_a_day_that_our_own_count_says_is_spent_is_not_asked_about() -> None:
    limits = RequestLimits(windows=(), daily=DailyLimit(requests=1))
    state = _after(_day_left(0, limit=1), limits=limits)
    wait = _wait(state, now=NOW + timedelta(hours=1), limits=limits)
    assert (wait.seconds, wait.resets_at) == (39_600, datetime(2026, 1, 16, tzinfo=UTC))


def test_the_end_of_the_day_is_not_waited_past() -> None:
    midnight = datetime(2026, 1, 16, tzinfo=UTC)
    state = _after(_day_left(0), now=midnight - timedelta(minutes=10))
    assert _wait(state, now=midnight - timedelta(minutes=5)).seconds == 300


def test_a_limit_that_was_raised_is_not_held_down_by_what_answers_said_before() -> None:
    state = _after(_day_left(0))
    raised = RequestLimits(windows=(), daily=DailyLimit(requests=2_000))
    grant, state = _sent(state, limits=raised)
    assert grant.counted_today == 2
    state = after_answer(state, grant, _day_left(40, limit=2_000), now=NOW, limits=raised)
    assert _grants_at(state, NOW, limits=raised) == 40


def test_of_the_day_too_others_are_there_only_once_more_is_used_than_we_were_granted() -> None:
    first, state = _sent(LimiterState())
    _second, state = _sent(state)
    state = after_answer(state, first, _day_left(998), now=NOW, limits=LIMITS)  # the second one overtook it
    assert state.day is not None
    assert (state.day.foreign, state.day.read_at) == (0, round(NOW.timestamp() * 1000))
    later = after_answer(state, first, _day_left(998), now=NOW + timedelta(seconds=1), limits=LIMITS)
    assert later == state, "what says nothing new is not written"


def test_a_day_that_the_vendor_says_is_shorter_than_configured_holds() -> None:
    assert _grants_at(_after(_day_left(0, limit=1)), NOW) == 0


def test_a_part_of_the_account_s_day_is_ours_whatever_else_is_left() -> None:
    state = _after(_day_left(249_000, limit=250_000))
    assert _grants_at(state, NOW + timedelta(seconds=20)) == 100
    assert state.day is not None
    assert (state.day.used, state.day.foreign, state.day.stated) == (1, 999, 250_000)


def test_a_reading_of_the_day_before_does_not_spend_today() -> None:
    midnight = datetime(2026, 1, 16, tzinfo=UTC)
    grant, state = _sent(LimiterState(), now=midnight - timedelta(seconds=1))
    state = after_answer(state, grant, _day_left(0), now=midnight + timedelta(seconds=1), limits=LIMITS)
    state = _after(_day_left(0), state=state, now=midnight + timedelta(seconds=30))  # the vendor's clock is late
    assert isinstance(decide(state, now=midnight + timedelta(seconds=31), limits=LIMITS)[0], Grant)


def test_a_reading_of_a_window_that_is_not_configured_is_left_alone() -> None:
    assert _after(Seen(readings=(QuotaReading(Unit.REQUESTS, 1, 19, 0),))).foreign == {}


def test_a_salesforce_account_that_others_have_spent_is_asked_again_by_one_request() -> None:
    """``api-usage=5000/5000``: 24 hours on end, told with each answer."""
    limits = RequestLimits(windows=(WindowLimit(requests=5_000, seconds=86_400),), daily=None)
    spent = QuotaReading(Unit.REQUESTS, 86_400, 5_000, 0)
    state = _after(Seen(throttled=True, until_reset=True, readings=(spent,)), limits=limits)
    assert _wait(state, limits=limits).seconds == pytest.approx(900)
    later = NOW + timedelta(seconds=901)
    grant, state = _sent(state, now=later, limits=limits)
    assert _wait(state, now=later, limits=limits).reason is WaitReason.DAILY
    some = QuotaReading(Unit.REQUESTS, 86_400, 5_000, 40)
    state = after_answer(state, grant, Seen(readings=(some,)), now=later, limits=limits)
    assert 38 <= _grants_at(state, later, limits=limits) <= 40
