"""Other applications on the same account: known by what answers say is left, left their share, never crowded out."""

import random
from collections.abc import Callable
from datetime import timedelta

import pytest

from leads_pipeline.config import RequestLimits, WindowLimit
from leads_pipeline.domain.delivery import QuotaReading, Unit
from leads_pipeline.outbound import foreign_use
from leads_pipeline.outbound.answers import after_answer
from leads_pipeline.outbound.limiter import Grant, LimiterState, Seen, Wait, decide
from leads_pipeline.outbound.limiter_state import ForeignUse, WindowKey
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.outbound.shared_quota import Outcome, SharedQuota

IDEAL = 1_800  # of 100 in 2 s and 300 in 10 s, in a minute
TEN_SECONDS = WindowKey("api", Unit.REQUESTS, 10)
NOW_MS = round(NOW.timestamp() * 1000)


def _steady(_random: random.Random) -> list[float]:
    return [-10 + place / 9 for place in range(630)]


def _in_bursts(_random: random.Random) -> list[float]:
    return [2 * burst + 0.3 + place * 0.005 for burst in range(-5, 30) for place in range(18)]


def _by_chance(random: random.Random) -> list[float]:
    instants, now = [], -10.0
    while now < 60:
        now += random.expovariate(9)
        instants.append(now)
    return instants


def test_without_others_the_headers_cost_nothing() -> None:
    outcome = SharedQuota().run()
    assert (outcome.accepted, outcome.refused) == (IDEAL, 0)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("told", [(2, 10), (10,)])
@pytest.mark.parametrize(("others", "least"), [(_steady, 0.97), (_in_bursts, 0.97), (_by_chance, 0.95)])
def test_beside_an_application_that_takes_30_percent_the_rest_is_used_and_nobody_is_refused(
    others: Callable[[random.Random], list[float]], least: float, told: tuple[int, ...], seed: int
) -> None:
    outcome = SharedQuota(others(random.Random(seed)), told=told, seed=seed).run()
    assert outcome.refused == 0
    assert outcome.accepted / (IDEAL - outcome.others) >= least
    asked = outcome.others + outcome.others_refused
    assert outcome.others_refused / asked <= (0.15 if others is _by_chance else 0.005)


@pytest.mark.parametrize("callers", [8, 16])
@pytest.mark.parametrize("others", [_steady, _by_chance])
def test_a_vendor_that_takes_its_time_refuses_nothing_either(
    others: Callable[[random.Random], list[float]], callers: int
) -> None:
    """A late answer moves its grant's stamp; what the vendor no longer counts must not hide others' use."""
    slow = SharedQuota(others(random.Random(1)), callers=callers, way=(0.01, 0.06), answer=(0.1, 0.3))
    outcome = slow.run()
    assert outcome.refused == 0
    assert outcome.accepted / (IDEAL - outcome.others) >= 0.94


@pytest.mark.parametrize("told", [(2, 10), (10,)])
def test_answers_slower_than_a_window_make_up_no_others(told: tuple[int, ...]) -> None:
    def outcome(told: tuple[int, ...]) -> Outcome:
        return SharedQuota(told=told, callers=100, answer=(2.0, 4.0), seconds=15).run()

    assert outcome(told) == outcome(())


def test_an_answer_slower_than_its_window_says_nothing_of_it() -> None:
    limits = RequestLimits(windows=LIMITS.windows, daily=None)
    grant, state = _granted(LimiterState(), limits, seconds=0)
    assert _answered(state, grant, limits, used=60, seconds=10).foreign == {}
    use = _answered(state, grant, limits, used=60, seconds=9.99).foreign[TEN_SECONDS]
    assert (use.measured, use.ahead) == (59, 15)  # what may come meanwhile is a quarter at most


def test_nobody_is_told_to_come_back_at_once_while_a_window_is_full() -> None:
    """Beside answers slower than the short window, and headers of the long one alone."""
    outcome = SharedQuota(_steady(random.Random(1)), callers=100, told=(10,), answer=(2.0, 2.5), seconds=20).run()
    assert outcome.accepted > 350
    assert outcome.hurried < 300


def test_one_request_that_timed_out_does_not_make_ours_look_like_others() -> None:
    lost, state = _granted(LimiterState(), LIMITS, seconds=0)
    grant, state = _granted(state, LIMITS, seconds=29)
    state = _answered(state, grant, LIMITS, used=11, seconds=29.02)
    state = after_answer(state, lost, Seen(late=True), now=NOW + timedelta(seconds=30), limits=LIMITS)
    for _request in range(30):
        grant, state = _granted(state, LIMITS, seconds=31)
    state = _answered(state, grant, LIMITS, used=42, seconds=31.02)
    assert state.foreign[TEN_SECONDS].measured in (10, 11)


def _answered(state: LimiterState, grant: Grant, limits: RequestLimits, *, used: int, seconds: float) -> LimiterState:
    """The state after an answer that came ``seconds`` after NOW, by which ``used`` of 100 were used."""
    reading = QuotaReading(Unit.REQUESTS, 10, 100, 100 - used)
    return after_answer(state, grant, Seen(readings=(reading,)), now=NOW + timedelta(seconds=seconds), limits=limits)


def _granted(state: LimiterState, limits: RequestLimits, *, seconds: float) -> tuple[Grant, LimiterState]:
    answer, state = decide(state, now=NOW + timedelta(seconds=seconds), limits=limits)
    assert isinstance(answer, Grant)
    return answer, state


LIMITS = RequestLimits(windows=(WindowLimit(requests=100, seconds=10),), daily=None)


def test_what_others_use_is_left_to_them() -> None:
    grant, state = _granted(LimiterState(), LIMITS, seconds=0)
    state = _answered(state, grant, LIMITS, used=61, seconds=0.02)  # 60 of others, and ours
    granted = 1
    while isinstance((decided := decide(state, now=NOW + timedelta(seconds=0.03), limits=LIMITS))[0], Grant):
        granted, state = granted + 1, decided[1]
    assert granted == 39  # and one is kept for what others do until the next request arrives


def test_a_window_that_others_fill_is_asked_about_by_one_request_when_what_is_known_has_grown_old() -> None:
    grant, state = _granted(LimiterState(), LIMITS, seconds=0)
    state = _answered(state, grant, LIMITS, used=100, seconds=0.02)
    wait, _state = decide(state, now=NOW + timedelta(seconds=1), limits=LIMITS)
    assert isinstance(wait, Wait)
    assert 8.9 < wait.seconds < 9.1
    grant, state = _granted(state, LIMITS, seconds=10.1)
    other, state = decide(state, now=NOW + timedelta(seconds=10.1), limits=LIMITS)
    assert isinstance(other, Wait)
    assert other.seconds == 5
    state = _answered(state, grant, LIMITS, used=1, seconds=10.2)
    assert isinstance(decide(state, now=NOW + timedelta(seconds=10.2), limits=LIMITS)[0], Grant)


@pytest.mark.parametrize("used", [30, 100])
def test_what_no_answer_speaks_of_any_more_fades_away(used: int) -> None:
    grant, state = _granted(LimiterState(), LIMITS, seconds=0)
    state = _answered(state, grant, LIMITS, used=used, seconds=0.02)
    for request in range(1, 9):
        _grant, state = _granted(state, LIMITS, seconds=10.1 * request)
    assert state.foreign[TEN_SECONDS].used == 0


def test_a_limit_that_the_vendor_states_holds_when_it_is_lower_than_ours() -> None:
    limits = RequestLimits(windows=(WindowLimit(requests=190, seconds=10),), daily=None)
    grant, state = _granted(LimiterState(), limits, seconds=0)
    state = _answered(state, grant, limits, used=1, seconds=0.02)
    for _request in range(99):
        _grant, state = _granted(state, limits, seconds=0.02)
    assert isinstance(decide(state, now=NOW + timedelta(seconds=0.02), limits=limits)[0], Wait)


def test_a_larger_measurement_holds_at_once_and_a_smaller_one_a_tenth_of_the_window_later() -> None:
    def after(before: ForeignUse | None, used: int, *, ms: int) -> ForeignUse:
        reading = QuotaReading(Unit.REQUESTS, 10, 100, 100 - used)
        use = foreign_use.measured(
            reading, seconds=10, before=before, ours=0, ours_now=0, most=100, on_its_way_ms=0, now_ms=NOW_MS + ms
        )
        assert use is not None
        return use

    first = after(None, 20, ms=0)
    assert after(first, 25, ms=10).measured == 25
    assert after(first, 15, ms=900).measured == 20
    assert after(first, 15, ms=1_100).measured == 15
    assert after(first, 15, ms=1_100).used > 19, "their usual use is still left to them"


def test_a_window_without_a_header_is_judged_by_the_others_of_its_kind() -> None:
    known = {TEN_SECONDS: ForeignUse(90, 300, NOW_MS, usual=90, ahead=0)}

    def used(endpoint_class: str, unit: Unit, seconds: int, *, ms: int = 100) -> int | None:
        key = WindowKey(endpoint_class, unit, seconds)
        use = foreign_use.in_window(known, key, most=100, now_ms=NOW_MS + ms)
        return None if use is None else use.used

    assert used("api", Unit.REQUESTS, 2) == 27  # a fifth, and what chance may add
    assert used("api", Unit.REQUESTS, 60) == 90  # at least
    assert used("api", Unit.CREDITS, 2) is None
    assert used("search", Unit.REQUESTS, 2) is None
    assert used("api", Unit.REQUESTS, 10, ms=10_001) is None
    assert used("api", Unit.REQUESTS, 2, ms=10_001) is None


@pytest.mark.parametrize(
    ("told", "windows", "passed", "waited"),
    [
        (QuotaReading(Unit.REQUESTS, 10, 300, 150), ((100, 2), (300, 10)), 4.0, 2.051),
        (QuotaReading(Unit.REQUESTS, 86_400, 100_000, 70_000), ((100, 10), (100_000, 86_400)), 11.0, 10.051),
        (QuotaReading(Unit.REQUESTS, 10, 100, 50), ((100, 10), (70, 60)), 0.1, 9.92),
    ],
)
def test_what_another_window_s_measurement_suggests_holds_for_as_long_as_that_measurement(
    told: QuotaReading, windows: tuple[tuple[int, int], ...], passed: float, waited: float
) -> None:
    """A full window that no answer speaks of: neither is it asked again each millisecond, nor long after it is free."""
    limits = RequestLimits(
        windows=tuple(WindowLimit(requests=most, seconds=seconds) for most, seconds in windows), daily=None
    )
    grant, state = _granted(LimiterState(), limits, seconds=0)
    state = after_answer(state, grant, Seen(readings=(told,)), now=NOW + timedelta(seconds=0.02), limits=limits)
    while isinstance((decided := decide(state, now=NOW + timedelta(seconds=passed), limits=limits))[0], Grant):
        state = decided[1]
    wait = decided[0]
    assert isinstance(wait, Wait)
    assert wait.seconds == pytest.approx(waited, abs=0.02)
    _granted(state, limits, seconds=passed + wait.seconds)


def test_of_24_hours_it_is_asked_again_after_a_quarter_of_an_hour() -> None:
    use = ForeignUse(5_000, 5_000, NOW_MS, usual=5_000, ahead=0)
    assert foreign_use.valid_until(use, seconds=86_400) - NOW_MS == 900_000
