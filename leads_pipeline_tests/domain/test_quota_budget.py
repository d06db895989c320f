"""A day's quota shared out over lanes."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.domain.delivery import Unit
from leads_pipeline.domain.quota_budget import Budget, allowance, allowances, reserve, tightest, until_next_part
from leads_pipeline.domain.stage import ALL_LANES, Lane

MIDNIGHT = datetime(2026, 1, 16, tzinfo=UTC)


@pytest.mark.parametrize(
    ("lane", "expected"),
    [(None, 100), (Lane.REAL_TIME, 100), (Lane.NEAR_REAL_TIME, 70), (Lane.BATCH, 45)],
)
def test_what_more_urgent_lanes_will_need_is_kept_for_them(lane: Lane | None, expected: int) -> None:
    forecast = {Lane.REAL_TIME: 30, Lane.NEAR_REAL_TIME: 25, Lane.BATCH: 10_000}
    assert allowance(lane, left=100, reserved=20, forecast=forecast) == expected


def test_the_reserve_is_kept_even_if_nothing_urgent_is_expected() -> None:
    assert allowance(Lane.BATCH, left=100, reserved=20) == 80
    assert allowance(Lane.BATCH, left=10, reserved=20) == 0
    assert allowance(Lane.REAL_TIME, left=10, reserved=20) == 10


@given(
    left=st.integers(0, 10_000),
    reserved=st.integers(0, 10_000),
    forecast=st.dictionaries(st.sampled_from(ALL_LANES), st.integers(0, 10_000)),
)
def test_a_more_urgent_lane_never_gets_less_and_none_gets_more_than_is_left(
    left: int, reserved: int, forecast: dict[Lane, int]
) -> None:
    shares = [allowance(lane, left=left, reserved=reserved, forecast=forecast) for lane in ALL_LANES]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == left
    assert min(shares) >= 0


def test_the_reserve_is_let_go_of_as_the_day_goes_by() -> None:
    kept = [
        reserve(Budget(1_000, 0, resets_at=MIDNIGHT, share_left=share), 0.12) for share in (1.0, 0.75, 0.5, 0.01, 0.0)
    ]
    assert kept == [120, 90, 60, 5, 5]


@given(share_left=st.floats(0.001, 1))
def test_whoever_waits_for_the_next_part_finds_less_kept_back(share_left: float) -> None:
    before = Budget(24_000, 0, share_left=share_left)
    after = Budget(24_000, 0, share_left=share_left * (1 - until_next_part(before)))
    assert reserve(after, 0.5) < reserve(before, 0.5) or reserve(before, 0.5) == 500
    a_little_earlier = Budget(24_000, 0, share_left=share_left * (1 - 0.99 * until_next_part(before)))
    assert reserve(a_little_earlier, 0.5) == reserve(before, 0.5)


@pytest.mark.parametrize(
    ("budget", "left"),
    [
        (Budget(100, 30), 70),
        (Budget(100, 30, foreign=50), 20),
        (Budget(100, 30, foreign=90), 0),
        (Budget(100, 30, foreign=50, stated=200), 70),  # a part of the account's quota is ours by configuration
        (Budget(100, 30, foreign=10, stated=50), 10),  # the account has less than we were told
    ],
)
def test_what_is_left_is_the_least_of_our_limit_and_the_account_s(budget: Budget, left: int) -> None:
    assert budget.left == left


def test_every_lane_s_share_is_told() -> None:
    found = allowances(Budget(1_000, 500), share=0.1, forecast={Lane.NEAR_REAL_TIME: 300})
    assert found == {Lane.REAL_TIME: 500, Lane.NEAR_REAL_TIME: 400, Lane.BATCH: 200}


def test_a_forecast_of_requests_keeps_no_credits_back() -> None:
    found = allowances(Budget(1_000, 500, unit=Unit.CREDITS), share=0.1, forecast={Lane.NEAR_REAL_TIME: 300})
    assert found == {Lane.REAL_TIME: 500, Lane.NEAR_REAL_TIME: 400, Lane.BATCH: 400}


def test_the_tightest_budget_has_least_left_and_among_units_the_smallest_share() -> None:
    day, rolling = Budget(1_000, 950), Budget(100, 40)
    assert tightest([rolling, day]) is day
    assert tightest([day, Budget(40, 0)]).left == 40
    credits_left = Budget(10_000, 9_900, unit=Unit.CREDITS)
    assert tightest([day, credits_left, rolling]) is credits_left
