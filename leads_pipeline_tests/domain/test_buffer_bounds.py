"""How full is full, and who is refused first."""

from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from leads_pipeline.domain.buffer_bounds import (
    BATCH_REFUSED_FROM,
    HYSTERESIS,
    IMPORTS_SLOW_FROM,
    NEAR_REAL_TIME_REFUSED_FROM,
    REAL_TIME_REFUSED_FROM,
    Bounds,
    Level,
    fill_of,
    import_speed,
    level_after,
)
from leads_pipeline.domain.stage import Lane
from leads_pipeline_tests.conftest import NOW

BOUNDS = Bounds(max_leads=1_000, max_age=timedelta(hours=10), min_free_disk_bytes=1_000_000)
fills = st.floats(min_value=0, max_value=3, allow_nan=False)
levels = st.sampled_from(Level)


@given(levels, fills)
def test_a_lane_that_is_refused_closes_every_less_urgent_lane_too(before: Level, fill: float):
    refused = level_after(before, fill).refused

    for place, lane in enumerate(Lane):
        if lane in refused:
            assert set(list(Lane)[place:]) <= refused


@given(levels, fills, fills)
def test_a_fuller_buffer_is_never_at_a_milder_level(before: Level, one: float, other: float):
    less, more = sorted((one, other))

    assert level_after(before, less).severity <= level_after(before, more).severity


@given(levels, fills)
def test_the_level_is_settled_by_one_measurement(before: Level, fill: float):
    level = level_after(before, fill)

    assert level_after(level, fill) is level


@given(levels, fills, st.floats(min_value=0, max_value=HYSTERESIS * 0.99))
@example(before=Level.BATCH_REFUSED, fill=0.890625, waver=0.015625)
def test_a_fill_that_wavers_less_than_the_hysteresis_does_not_flap(before: Level, fill: float, waver: float):
    level = level_after(level_after(before, fill), fill - waver)

    for wavering in (fill, fill - waver, fill):
        assert level_after(level, wavering) is level


@pytest.mark.parametrize(
    "begins_at", [IMPORTS_SLOW_FROM, BATCH_REFUSED_FROM, NEAR_REAL_TIME_REFUSED_FROM, REAL_TIME_REFUSED_FROM]
)
def test_a_level_holds_until_the_fill_is_below_its_threshold_by_the_hysteresis(begins_at: float):
    level = level_after(Level.NORMAL, begins_at)

    assert level_after(level, begins_at - HYSTERESIS * 0.99) is level
    assert level_after(level, begins_at - HYSTERESIS * 1.01).severity < level.severity


@given(levels, fills)
def test_an_import_goes_the_slower_the_fuller_and_stops_where_batch_is_refused(before: Level, fill: float):
    level = level_after(before, fill)
    speed = import_speed(fill, level)

    assert 0.0 <= speed <= 1.0
    assert (speed == 0.0) == (Lane.BATCH in level.refused)
    assert import_speed(fill + 0.01, level_after(before, fill + 0.01)) <= speed


@pytest.mark.parametrize(
    ("fill", "level"),
    [
        (0.0, Level.NORMAL),
        (IMPORTS_SLOW_FROM - 0.001, Level.NORMAL),
        (IMPORTS_SLOW_FROM, Level.SLOW),
        (BATCH_REFUSED_FROM, Level.BATCH_REFUSED),
        (NEAR_REAL_TIME_REFUSED_FROM, Level.NEAR_REAL_TIME_REFUSED),
        (REAL_TIME_REFUSED_FROM - 0.001, Level.NEAR_REAL_TIME_REFUSED),
        (REAL_TIME_REFUSED_FROM, Level.REAL_TIME_REFUSED),
    ],
)
def test_each_level_begins_at_its_threshold(fill: float, level: Level):
    assert level_after(Level.NORMAL, fill) is level


def test_halfway_between_slow_and_refused_an_import_has_half_its_speed():
    assert import_speed((IMPORTS_SLOW_FROM + BATCH_REFUSED_FROM) / 2, Level.SLOW) == pytest.approx(0.5)


def test_the_worst_of_leads_age_and_disk_decides():
    def fill(waiting: int, hours: float, free: int | None) -> float:
        return fill_of(
            waiting=waiting,
            oldest_received_at=NOW - timedelta(hours=hours),
            free_disk_bytes=free,
            bounds=BOUNDS,
            now=NOW,
        ).worst

    assert fill(800, 1, 10_000_000) == pytest.approx(0.8)
    assert fill(100, 9, 10_000_000) == pytest.approx(0.9)
    assert fill(100, 1, 2_000_000) == pytest.approx(0.5)
    assert fill(100, 1, 1_000_000) == pytest.approx(1.0)
    assert fill(100, 1, 0) > 1.0


def test_an_empty_buffer_on_an_unwatched_disk_is_empty_also_when_its_clock_is_behind():
    empty = fill_of(waiting=0, oldest_received_at=None, free_disk_bytes=None, bounds=BOUNDS, now=NOW)
    behind = fill_of(
        waiting=1, oldest_received_at=NOW + timedelta(hours=1), free_disk_bytes=None, bounds=BOUNDS, now=NOW
    )

    assert empty.worst == 0.0
    assert behind.age == 0.0
