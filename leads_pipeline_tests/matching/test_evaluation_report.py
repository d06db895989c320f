"""The figures of a run and how two runs agree."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.matching.evaluation_report import Agreement, Cost, RunFigures

COST = Cost(1.0, 0.5, 100.0)
GROUPS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=12)


def test_a_row_that_was_rejected_is_alone_in_the_figures_of_all_rows() -> None:
    truth = {0: "ada", 1: "ada", 2: "ada", 3: "grace"}
    run = RunFigures.of(truth, {0: "x", 1: "x", 3: "y"}, COST)
    assert (run.pairwise.true_pairs, run.pairwise.found_pairs, run.pairwise.correct_pairs) == (3, 1, 1)
    assert (run.accepted_pairwise.recall, run.accepted_bcubed.f1) == (1.0, 1.0)
    assert run.bcubed.recall == pytest.approx((2 / 3 + 2 / 3 + 1 / 3 + 1) / 4)
    assert run.contacts.groups == 2


def test_a_row_of_nobody_known_is_a_contact_but_no_figure() -> None:
    run = RunFigures.of({0: "ada"}, {0: "x", 1: "x"}, COST)
    assert run.contacts.largest == 2
    assert run.pairwise.found_pairs == 0


@given(GROUPS)
def test_two_ways_are_equal_only_if_every_row_is_with_the_same_others(groups: list[tuple[int, int]]) -> None:
    one = {row: f"one {group}" for row, (group, _other) in enumerate(groups)}
    other = {row: group for row, (_group, group) in enumerate(groups)}
    agreement = Agreement.of(one, other)
    apart = sum(
        {row for row in one if one[row] == one[at]} != {row for row in other if other[row] == other[at]} for at in one
    )
    assert agreement.are_equal is (apart == 0)
    assert agreement.rows_grouped_differently == apart
    assert (agreement.pairwise.f1 == 1.0) is (apart == 0)
