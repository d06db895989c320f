"""What may be limited beside requests in a window: costs, classes of endpoints, 24 hours on end, requests under way."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leads_pipeline.config import DailyLimit, EndpointClassLimits, RequestLimits, WindowLimit
from leads_pipeline.domain.delivery import Unit
from leads_pipeline.domain.stage import Lane
from leads_pipeline.errors import ConfigError
from leads_pipeline.outbound.answers import after_answer, given_back
from leads_pipeline.outbound.limiter import Ask, Grant, LimiterState, Seen, Wait, WaitReason, decide
from leads_pipeline_tests.conftest import NOW

CREDITS = RequestLimits(
    windows=(
        WindowLimit(requests=6, seconds=2),
        WindowLimit(credits=20, seconds=5),
        WindowLimit(records=90, seconds=8),
    ),
    daily=None,
    shared_in_flight=4,
)
EXPIRY = timedelta(seconds=3)


def _ask(
    limits: RequestLimits, state: LimiterState, ask: Ask, *, seconds: float = 0
) -> tuple[Grant | Wait, LimiterState]:
    return decide(state, now=NOW + timedelta(seconds=seconds), limits=limits, ask=ask, expires_after=EXPIRY)


def _drain(
    limits: RequestLimits, ask: Ask, *, state: LimiterState | None = None, seconds: float = 0
) -> tuple[int, Wait]:
    """How many grants there are at one instant, and what the next one is told."""
    state, granted = state or LimiterState(), 0
    while True:
        answer, state = _ask(limits, state, ask, seconds=seconds)
        if isinstance(answer, Wait):
            return granted, answer
        granted += 1


STEPS = st.lists(
    st.tuples(
        st.integers(0, 700), st.integers(0, 20), st.integers(0, 60), st.sampled_from(["answer", "late", "die", "back"])
    ),
    min_size=1,
    max_size=100,
)


@settings(max_examples=150)
@given(steps=STEPS)
def test_no_schedule_of_costs_answers_and_crashes_passes_a_window_or_the_limit_of_requests_under_way(
    steps: list[tuple[int, int, int, str]],
) -> None:
    """``die``: nobody ever says what became of the request; it still counts in its windows, and was sent at once."""
    state, now_ms = LimiterState(), 0
    sent: dict[Unit, list[tuple[int, int]]] = defaultdict(list)
    open_until: list[int] = []
    for gap, credit, records, fate in steps:
        now_ms += gap
        now = NOW + timedelta(milliseconds=now_ms)
        ask = Ask(cost={Unit.REQUESTS: 1, Unit.CREDITS: credit, Unit.RECORDS: records})
        answer, decided = decide(state, now=now, limits=CREDITS, ask=ask, expires_after=EXPIRY)
        if isinstance(answer, Wait):
            assert answer.seconds > 0
            continue
        state = decided
        open_until = [until for until in open_until if until > now_ms]
        if fate == "back":
            state = given_back(state, answer, limits=CREDITS)
            continue
        arrived = now_ms
        if fate == "die":
            open_until.append(now_ms + 3_000)
            assert len(open_until) <= 4
        else:
            if fate == "late":
                now_ms += 400
                arrived = now_ms
            seen = Seen(late=fate == "late")
            state = after_answer(state, answer, seen, now=NOW + timedelta(milliseconds=now_ms), limits=CREDITS)
        for unit, cost in ask.cost.items():
            sent[unit].append((arrived, cost))
    for window in CREDITS.windows:
        log = sent[Unit(window.unit)]
        for last, _cost in log:
            inside = sum(cost for ms, cost in log if last - window.seconds * 1000 < ms <= last)
            assert inside <= window.most


@given(costs=st.lists(st.integers(1, 20), min_size=1, max_size=40))
def test_whoever_waits_as_told_gets_the_grant_whatever_it_costs(costs: list[int]) -> None:
    limits = RequestLimits(windows=(WindowLimit(credits=20, seconds=5),), daily=None)
    state, now = LimiterState(), NOW
    for cost in costs:
        ask = Ask(cost={Unit.CREDITS: cost})
        answer, state = decide(state, now=now, limits=limits, ask=ask)
        if isinstance(answer, Wait):
            now += timedelta(seconds=answer.seconds)
            answer, state = decide(state, now=now, limits=limits, ask=ask)
        assert isinstance(answer, Grant)


def test_a_request_that_could_never_go_out_is_a_mistake_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match="make the batches smaller"):
        _ask(CREDITS, LimiterState(), Ask(cost={Unit.RECORDS: 100}))


def test_a_request_counts_in_the_windows_of_what_it_costs() -> None:
    granted, wait = _drain(CREDITS, Ask(cost={Unit.CREDITS: 10}))
    assert (granted, wait.reason) == (2, WaitReason.WINDOW)
    assert wait.seconds == pytest.approx(5.051)


SEARCH = RequestLimits(
    windows=(WindowLimit(requests=10, seconds=10),),
    daily=DailyLimit(requests=14),
    endpoint_classes={
        "search": EndpointClassLimits(windows=(WindowLimit(requests=5, seconds=1),), separate=True),
        "bulk": EndpointClassLimits(windows=(WindowLimit(requests=2, seconds=1),)),
    },
)


def _granted(state: LimiterState, ask: Ask, *, times: int) -> LimiterState:
    for _time in range(times):
        answer, state = _ask(SEARCH, state, ask)
        assert isinstance(answer, Grant)
    return state


def test_a_class_of_endpoints_has_windows_of_its_own() -> None:
    state = _granted(LimiterState(), Ask(endpoint_class="search"), times=5)
    wait, _state = _ask(SEARCH, state, Ask(endpoint_class="search"))
    assert isinstance(wait, Wait)
    assert wait.seconds < 1.1
    state = _granted(state, Ask(), times=9)  # a separate class takes nothing of the account's windows, but of its day
    wait, _state = _ask(SEARCH, state, Ask())
    assert isinstance(wait, Wait)
    assert wait.reason is WaitReason.DAILY


def test_a_class_that_is_not_separate_counts_in_the_account_s_windows_as_well() -> None:
    state = _granted(LimiterState(), Ask(endpoint_class="bulk"), times=2)
    assert isinstance(_ask(SEARCH, state, Ask(endpoint_class="bulk"))[0], Wait)
    state = _granted(state, Ask(), times=8)
    assert isinstance(_ask(SEARCH, state, Ask())[0], Wait)


def test_a_grant_given_back_frees_what_it_cost_in_its_class_only() -> None:
    state = _granted(LimiterState(), Ask(endpoint_class="search"), times=4)
    state = _granted(state, Ask(), times=3)
    answer, state = _ask(SEARCH, state, Ask(endpoint_class="search"))
    assert isinstance(answer, Grant)
    state = given_back(state, answer, limits=SEARCH)
    assert {key.endpoint_class: log.total for key, log in state.logs.items()} == {"api": 3, "search": 4, "bulk": 0}
    assert state.day is not None
    assert state.day.used == 7


ROLLING = RequestLimits(windows=(WindowLimit(requests=100, seconds=86_400),), daily=None, reserve=0.1)


def test_24_hours_on_end_free_as_they_were_used() -> None:
    state = LimiterState()
    for hour in range(20):
        for _request in range(5):
            answer, state = _ask(ROLLING, state, Ask(), seconds=3600 * hour)
            assert isinstance(answer, Grant)
    wait, _state = _ask(ROLLING, state, Ask(), seconds=20 * 3600)
    assert isinstance(wait, Wait)
    assert wait.reason is WaitReason.DAILY
    assert wait.resets_at == pytest.approx(NOW + timedelta(hours=24), abs=timedelta(seconds=1))
    granted, _wait = _drain(ROLLING, Ask(), state=state, seconds=24 * 3600 + 1)
    assert granted == 5


@pytest.mark.parametrize(("lane", "most"), [(Lane.REAL_TIME, 100), (None, 100), (Lane.BATCH, 90)])
def test_of_24_hours_on_end_a_reserve_is_kept_for_the_real_time_lane(lane: Lane | None, most: int) -> None:
    granted, wait = _drain(ROLLING, Ask(lane=lane))
    assert granted == most
    assert wait.reason is (WaitReason.RESERVE if lane is Lane.BATCH else WaitReason.DAILY)


DAILY = RequestLimits(windows=(WindowLimit(requests=10_000, seconds=1),), daily=DailyLimit(requests=240), reserve=0.5)


def test_the_batch_lane_parks_at_the_reserve_while_the_real_time_lane_goes_on() -> None:
    state, granted = LimiterState(), 0
    while isinstance((decided := _ask(DAILY, state, Ask(lane=Lane.BATCH)))[0], Grant):
        granted, state = granted + 1, decided[1]
    assert granted == 180  # at noon half of the reserve is let go of
    parked = decided[0]
    assert isinstance(parked, Wait)
    assert parked.reason is WaitReason.RESERVE
    assert parked.resets_at == datetime(2026, 1, 16, tzinfo=UTC)
    assert parked.seconds == pytest.approx(3600)
    assert isinstance(_ask(DAILY, state, Ask(lane=Lane.REAL_TIME))[0], Grant)
    assert isinstance(_ask(DAILY, state, Ask(lane=Lane.BATCH), seconds=parked.seconds)[0], Grant)


def test_what_is_expected_of_more_urgent_lanes_is_kept_beyond_the_reserve() -> None:
    forecast = {Lane.REAL_TIME: 100, Lane.NEAR_REAL_TIME: 139}

    def answer(lane: Lane) -> Grant | Wait:
        return decide(LimiterState(), now=NOW, limits=DAILY, ask=Ask(lane=lane), forecast=forecast)[0]

    assert isinstance(answer(Lane.BATCH), Grant)
    forecast[Lane.NEAR_REAL_TIME] += 1
    refused = answer(Lane.BATCH)
    assert isinstance(refused, Wait)
    assert refused.reason is WaitReason.RESERVE
    assert isinstance(answer(Lane.NEAR_REAL_TIME), Grant)


@pytest.mark.parametrize(
    "limits",
    [
        RequestLimits(windows=(), daily=DailyLimit(requests=100), reserve=0),
        RequestLimits(windows=(WindowLimit(requests=100, seconds=86_400),), daily=None, reserve=0),
    ],
)
def test_whom_the_forecast_alone_keeps_back_is_told_to_come_when_there_is_a_new_one(limits: RequestLimits) -> None:
    ask = Ask(lane=Lane.BATCH)
    used, state = decide(LimiterState(), now=NOW, limits=limits, ask=ask)
    assert isinstance(used, Grant)
    wait, state = decide(state, now=NOW, limits=limits, ask=ask, forecast={Lane.REAL_TIME: 99})
    assert isinstance(wait, Wait)
    assert (wait.reason, wait.seconds) == (WaitReason.RESERVE, 60)
    later = NOW + timedelta(seconds=60)
    assert isinstance(decide(state, now=later, limits=limits, ask=ask, forecast={Lane.REAL_TIME: 98})[0], Grant)


def test_whom_the_reserve_keeps_back_does_not_wait_for_a_forecast() -> None:
    limits = RequestLimits(windows=(WindowLimit(requests=100, seconds=86_400),), daily=None, reserve=0.99)
    ask = Ask(lane=Lane.BATCH)
    _used, state = decide(LimiterState(), now=NOW, limits=limits, ask=ask)
    wait, _state = decide(state, now=NOW, limits=limits, ask=ask, forecast={Lane.REAL_TIME: 99})
    assert isinstance(wait, Wait)
    assert wait.seconds > 86_000


@pytest.mark.parametrize(
    ("zone", "began", "hours"),
    [
        ("America/New_York", datetime(2026, 3, 8, 5, tzinfo=UTC), 23),
        ("America/New_York", datetime(2026, 11, 1, 4, tzinfo=UTC), 25),
        ("Pacific/Auckland", datetime(2026, 4, 4, 11, tzinfo=UTC), 25),
        ("Pacific/Auckland", datetime(2026, 9, 26, 12, tzinfo=UTC), 23),
    ],
)
def test_a_day_with_a_change_of_the_clocks_ends_and_lets_go_of_its_reserve_by_its_own_length(
    zone: str, began: datetime, hours: int
) -> None:
    limits = RequestLimits(
        windows=(WindowLimit(requests=10_000, seconds=1),), daily=DailyLimit(requests=240, time_zone=zone), reserve=0.5
    )
    ask = Ask(lane=Lane.BATCH)
    state = LimiterState()
    while isinstance((decided := decide(state, now=began, limits=limits, ask=ask))[0], Grant):
        state = decided[1]
    wait = decided[0]
    assert isinstance(wait, Wait)
    assert wait.resets_at == began + timedelta(hours=hours)
    assert wait.seconds == pytest.approx(hours * 3600 / 24)
    next_day = began + timedelta(hours=hours)
    assert isinstance(decide(state, now=next_day - timedelta(seconds=1), limits=limits, ask=ask)[0], Grant)
    answer, state = decide(state, now=next_day, limits=limits, ask=ask)
    assert isinstance(answer, Grant)
    assert state.day is not None
    assert state.day.used == 1


def _used_in(zone: str, state: LimiterState, *, now: datetime) -> tuple[int, LimiterState]:
    limits = RequestLimits(windows=(), daily=DailyLimit(requests=240, time_zone=zone))
    answer, state = decide(state, now=now, limits=limits)
    assert isinstance(answer, Grant)
    return answer.counted_today, state


def test_a_changed_time_zone_gives_no_second_quota_for_the_same_hours() -> None:
    _used, state = _used_in("UTC", LimiterState(), now=NOW)
    used, state = _used_in("Pacific/Auckland", state, now=NOW)  # where it is the 16th already
    assert used == 2
    used, state = _used_in("Pacific/Auckland", state, now=NOW + timedelta(hours=23))
    assert used == 1
    used, _state = _used_in("UTC", state, now=NOW + timedelta(hours=48))
    assert used == 1


def test_requests_under_way_are_limited_until_they_are_answered() -> None:
    limits = RequestLimits(windows=(), daily=None, shared_in_flight=2)
    first, state = _ask(limits, LimiterState(), Ask())
    assert isinstance(first, Grant)
    _second, state = _ask(limits, state, Ask())
    wait, _state = _ask(limits, state, Ask())
    assert isinstance(wait, Wait)
    assert wait.reason is WaitReason.IN_FLIGHT
    state = after_answer(state, first, Seen(), now=NOW, limits=limits)
    assert isinstance(_ask(limits, state, Ask())[0], Grant)


def test_a_request_whose_sender_died_is_under_way_until_it_expires() -> None:
    limits = RequestLimits(windows=(), daily=None, shared_in_flight=1)
    _lost, state = _ask(limits, LimiterState(), Ask())
    assert isinstance(_ask(limits, state, Ask(), seconds=2.999)[0], Wait)
    answer, state = _ask(limits, state, Ask(), seconds=3)
    assert isinstance(answer, Grant)
    assert len(state.in_flight) == 1


def test_a_class_may_have_fewer_requests_under_way_than_the_account() -> None:
    limits = RequestLimits(
        windows=(), daily=None, shared_in_flight=3, endpoint_classes={"large": EndpointClassLimits(shared_in_flight=1)}
    )
    _large, state = _ask(limits, LimiterState(), Ask(endpoint_class="large"))
    assert isinstance(_ask(limits, state, Ask(endpoint_class="large"))[0], Wait)
    for _request in range(2):
        answer, state = _ask(limits, state, Ask())
        assert isinstance(answer, Grant)
    assert isinstance(_ask(limits, state, Ask())[0], Wait)


def test_without_a_limit_of_requests_under_way_none_are_remembered() -> None:
    _answer, state = _ask(ROLLING, LimiterState(), Ask())
    assert state.in_flight == {}
