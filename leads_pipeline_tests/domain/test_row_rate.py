"""The arithmetic of a pace in rows a second."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.domain.row_rate import RowRate


def test_rows_go_out_when_those_before_them_have_had_their_time() -> None:
    rate = RowRate(100, began=10.0)
    assert rate.wait_seconds(50, now=10.0) == 0.0
    assert rate.wait_seconds(50, now=10.1) == pytest.approx(0.4)
    assert rate.wait_seconds(100, now=10.5) == pytest.approx(0.5)


def test_time_that_was_not_used_is_not_saved_up() -> None:
    rate = RowRate(100, began=0.0)
    assert rate.wait_seconds(100, now=60.0) == 0.0
    assert rate.wait_seconds(100, now=60.0) == pytest.approx(1.0)


@given(
    per_second=st.floats(0.01, 1e6),
    groups=st.lists(st.tuples(st.integers(1, 5_000), st.floats(0, 10)), min_size=1, max_size=30),
)
def test_never_more_than_the_rate_however_long_the_work_takes(
    per_second: float, groups: list[tuple[int, float]]
) -> None:
    rate = RowRate(per_second, began=0.0)
    now = 0.0
    gone = 0
    for rows, work_seconds in groups:
        now += rate.wait_seconds(rows, now=now)
        # All rows before this group have had their time.
        assert gone <= now * per_second * (1 + 1e-9) + 1e-6
        gone += rows
        now += work_seconds


@pytest.mark.parametrize(("per_second", "rows"), [(0.5, 1), (1, 1), (99.9, 99), (1_000_000, 5_000)])
def test_a_group_is_a_seconds_worth(per_second: float, rows: int) -> None:
    assert RowRate(per_second, began=0.0).group_rows(5_000) == rows
