"""Whose turn it is: by weight, with floors, ageing, and fresh contacts first while a backlog drains."""

from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.domain.lane_shares import LaneShare, LaneShares
from leads_pipeline.domain.stage import ALL_LANES, Lane

REAL, NEAR, BATCH = Lane.REAL_TIME, Lane.NEAR_REAL_TIME, Lane.BATCH
NOW = timedelta(0)
PARTS = {
    REAL: LaneShare(8, 0.2, timedelta(minutes=1)),
    NEAR: LaneShare(3, 0.1, timedelta(minutes=15)),
    BATCH: LaneShare(1, 0.05, timedelta(hours=6)),
}

weights = st.floats(0.01, 100)
floors = st.floats(0, 0.3)
parts = st.fixed_dictionaries(
    {lane: st.builds(LaneShare, weights, floors, st.just(timedelta(hours=1))) for lane in ALL_LANES}
)
ages = st.dictionaries(st.sampled_from(ALL_LANES), st.sampled_from([NOW, timedelta(hours=2)]), min_size=1, max_size=3)


def _shares(some: dict[Lane, LaneShare] = PARTS, *, fresh_share: float = 0.8) -> LaneShares:
    return LaneShares(some, fresh_share=fresh_share, backlog=timedelta(minutes=1))


def _take(shares: LaneShares, waiting: dict[Lane, timedelta], count: int = 1) -> list[Lane]:
    taken = []
    for _ in range(count):
        taken.append(shares.choose(waiting))
        shares.charge(taken[-1], waiting)
    return taken


def test_the_most_urgent_lane_goes_first_and_each_gets_its_weight() -> None:
    taken = _take(_shares(), dict.fromkeys(ALL_LANES, NOW), 1200)
    assert taken[0] is REAL
    assert Counter(taken) == {REAL: 800, NEAR: 300, BATCH: 100}


def test_a_real_time_contact_that_comes_while_others_are_served_goes_next() -> None:
    shares = _shares()
    for already in range(40):
        _take(shares, {NEAR: NOW, BATCH: NOW}, already)
        assert _take(shares, dict.fromkeys(ALL_LANES, NOW)) == [REAL]


def test_a_lane_that_had_nothing_to_send_has_saved_up_no_turns() -> None:
    shares = _shares()
    _take(shares, {REAL: NOW}, 1000)
    assert Counter(_take(shares, {REAL: NOW, BATCH: NOW}, 90))[BATCH] == 10


def test_a_choice_alone_changes_nothing() -> None:
    shares = _shares()
    assert {shares.choose({NEAR: NOW, BATCH: NOW}) for _ in range(50)} == {NEAR}


def test_a_lane_whose_oldest_has_waited_too_long_weighs_as_much_as_the_heaviest() -> None:
    late = timedelta(hours=6, seconds=1)
    assert Counter(_take(_shares(), {REAL: NOW, BATCH: late}, 100)) == {REAL: 50, BATCH: 50}


def test_of_a_backlog_the_newest_go_in_their_share_of_the_turns_and_without_one_the_oldest() -> None:
    shares = _shares()
    assert not any(shares.takes_fresh(BATCH, timedelta(minutes=1)) for _ in range(10))
    assert sum(shares.takes_fresh(BATCH, timedelta(hours=1)) for _ in range(1000)) == pytest.approx(800, abs=1)
    assert not any(_shares(fresh_share=0).takes_fresh(BATCH, timedelta(hours=1)) for _ in range(10))
    assert all(_shares(fresh_share=1).takes_fresh(BATCH, timedelta(hours=1)) for _ in range(10))


@given(parts, ages)
def test_shares_add_up_and_no_lane_has_less_than_its_floor(
    some: dict[Lane, LaneShare], waiting: dict[Lane, timedelta]
) -> None:
    found = _shares(some).shares(waiting)
    assert found.keys() == waiting.keys()
    assert sum(found.values()) == pytest.approx(1)
    for lane, share in found.items():
        assert share >= some[lane].floor - 1e-9


@given(parts, ages)
def test_every_lane_gets_its_share_of_any_thousand_turns(
    some: dict[Lane, LaneShare], waiting: dict[Lane, timedelta]
) -> None:
    shares = _shares(some)
    expected = shares.shares(waiting)
    counts = Counter(_take(shares, waiting, 1000))
    for lane, share in expected.items():
        assert counts[lane] == pytest.approx(1000 * share, abs=3)


@given(st.lists(st.sets(st.sampled_from(ALL_LANES)), min_size=1, max_size=300))
def test_whatever_comes_and_goes_a_lane_that_waits_all_the_time_is_served(others: list[set[Lane]]) -> None:
    shares = _shares()
    unserved = 0
    for also in others:
        waiting = {BATCH: timedelta(hours=7)} | dict.fromkeys(also - {BATCH}, NOW)
        unserved = 0 if _take(shares, waiting) == [BATCH] else unserved + 1
        assert unserved <= 6
