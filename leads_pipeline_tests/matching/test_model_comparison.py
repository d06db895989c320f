"""Two models beside each other."""

from dataclasses import replace

import pytest

from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.matching.model import COMPARISONS, shipped_parameters
from leads_pipeline.matching.model_comparison import (
    Agreement,
    CutOffs,
    Decision,
    agreement,
    judged,
    level_weights,
    moved_weights,
    weights,
)
from leads_pipeline.matching.pairs import Frequencies
from leads_pipeline.matching.scoring import PairScorer
from leads_pipeline_tests.matching.models import changed

CUT_OFFS = CutOffs(merge=5, review=3)
RECORDS = [
    MatchFields(first_name_key="anna", last_name_key="kowalczyk", phone_key="+14155552671"),
    MatchFields(first_name_key="anna", last_name_key="kowalczyk", phone_key="+14155552671"),
    MatchFields(first_name_key="peter", last_name_key="quist", phone_key="+14155552672"),
]
PAIRS = [(0, 1), (0, 2), (1, 2)]
MANY = Frequencies(10_000)


@pytest.mark.parametrize(
    ("weight", "decision"),
    [(5.0, Decision.MERGE), (4.99, Decision.REVIEW), (3.0, Decision.REVIEW), (2.99, Decision.APART)],
)
def test_the_cut_offs_belong_to_what_is_above_them(weight: float, decision: Decision) -> None:
    assert CUT_OFFS.decide(weight) is decision


def test_every_level_has_a_weight() -> None:
    found = level_weights(shipped_parameters())

    assert len(found) == sum(len(comparison.levels) for comparison in COMPARISONS)
    assert found["first_name", "same"] > 0 > found["first_name", "different"]


def test_what_moved_is_named_with_the_largest_move_first() -> None:
    shipped = shipped_parameters()
    levels = {name: dict(found) for name, found in shipped.levels.items()}
    for name, factor in (("company", 2), ("phone", 16), ("born", 1.1)):
        m, u = levels[name]["same"]
        levels[name]["same"] = (m, u * factor)

    moved = moved_weights(shipped, replace(shipped, levels=levels))

    assert [(item.comparison, round(item.after - item.before, 1)) for item in moved] == [("phone", -4), ("company", -1)]


def test_a_model_agrees_with_itself_and_says_what_another_decides_otherwise(scorer: PairScorer) -> None:
    alone = agreement(scorer, scorer, RECORDS, PAIRS, frequencies=MANY, cut_offs=CUT_OFFS)
    wary = PairScorer(changed("wary", prior_factor=2.0**-40))
    with_other = agreement(scorer, wary, RECORDS, PAIRS, frequencies=MANY, cut_offs=CUT_OFFS)

    assert (alone.pairs, alone.share) == (3, 1.0)
    assert with_other.decisions == {(Decision.MERGE, Decision.APART): 1, (Decision.APART, Decision.APART): 2}
    assert with_other.share == pytest.approx(2 / 3)
    assert Agreement({}).share is None


def test_what_persons_decided_is_counted_by_kind(scorer: PairScorer) -> None:
    found = weights(scorer, RECORDS, PAIRS, frequencies=MANY)

    assert found[0, 1] > 5 > found[0, 2]
    judgement = judged(found, {(0, 1): True, (0, 2): True, (1, 2): False}, 5.0)
    assert (judgement.merged_rightly, judgement.missed, judgement.kept_apart_rightly) == (1, 1, 1)
    assert (judgement.decided, judgement.precision, judgement.recall) == (3, 1.0, 0.5)
    assert judged(found, {(0, 1): False}, 5.0).precision == 0.0
    assert judged({}, {}, 5.0).precision is judged({}, {}, 5.0).recall is None
