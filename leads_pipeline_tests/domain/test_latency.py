"""Buckets of time: exact for what is commonly promised, near enough for the rest, merged by adding."""

import hashlib
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.latency import (
    EDGES,
    bounds,
    bucket_of,
    last_bucket_within,
    merged,
    quantile,
    seconds_since_capture,
    share_within,
    tally,
    within,
)

NOW = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
MINUTE, HOUR, DAY = 60, 3_600, 86_400
TIMES = st.lists(st.floats(min_value=0.1, max_value=5_000_000), min_size=1, max_size=200)


def histogram(*seconds: float) -> dict[int, int]:
    return dict(tally(("real_time", one) for one in seconds)["real_time"])


def test_stored_buckets_keep_their_meaning():
    # What is stored are places among the edges: if one of these changes, every histogram that exists becomes wrong.
    digest = hashlib.sha256(",".join(f"{edge:.6g}" for edge in EDGES).encode()).hexdigest()
    assert (len(EDGES), digest[:12]) == (291, "f15240a69c0b")
    assert [bucket_of(seconds) for seconds in (0, 0.1, 1, 60, 300, DAY, 10**9)] == [0, 0, 35, 98, 121, 215, 291]


@pytest.mark.parametrize(
    "promise", [1, 5, 10, 30, 45, 60, 90, 120, 300, 600, 900, 30 * MINUTE, HOUR, 4 * HOUR, 12 * HOUR, DAY, 7 * DAY]
)
def test_a_common_promise_is_judged_to_the_millisecond(promise: int):
    counts = histogram(promise - 0.001, promise, promise + 0.001)
    assert within(counts, promise) == 2


@given(st.floats(min_value=0.1, max_value=9_000_000))
def test_any_other_threshold_is_judged_by_an_edge_that_is_at_most_5_percent_away(seconds: float):
    _low, edge = bounds(last_bucket_within(seconds))
    assert 0.95 <= edge / seconds <= 1.05


def test_no_bucket_is_wider_than_10_percent():
    assert max(after / before for before, after in pairwise(EDGES)) <= 1.1 + 1e-9


def test_a_threshold_must_be_positive():
    with pytest.raises(ValueError, match="must be positive"):
        last_bucket_within(0)


@given(TIMES, st.sampled_from([0.5, 0.95, 0.99]))
def test_a_quantile_lies_in_the_bucket_of_the_lead_that_it_is_about(seconds: list[float], share: float):
    found = quantile(histogram(*seconds), share)
    nearest = sorted(seconds)[max(0, -int(-share * len(seconds) // 1) - 1)]
    assert found is not None
    low, high = bounds(bucket_of(nearest))
    assert low <= found <= high


@given(TIMES, TIMES)
def test_histograms_merge_by_adding(some: list[float], others: list[float]):
    assert merged([histogram(*some), histogram(*others)]) == histogram(*some, *others)


def test_no_leads_have_neither_a_quantile_nor_a_share():
    assert quantile({}, 0.99) is None
    assert share_within({}, 60) is None


def test_what_took_longer_than_all_edges_took_at_least_that_long():
    assert quantile(histogram(10**9), 0.5) == EDGES[-1]


def test_a_share_is_of_all_leads():
    assert share_within(histogram(1, 2, 61, 3), 60) == 0.75


def test_the_age_of_a_lead_is_told_by_its_id():
    assert seconds_since_capture(uuid7(NOW), NOW + timedelta(seconds=12.345)) == 12.345


def test_a_clock_that_was_set_back_makes_no_negative_time():
    assert seconds_since_capture(uuid7(NOW), NOW - timedelta(hours=1)) == 0
