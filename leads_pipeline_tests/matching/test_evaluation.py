"""Precision and recall, and what the shipped model reaches on leads that it has not seen."""

from datetime import date
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.config import MatchingSettings
from leads_pipeline.domain.clustering import Limits
from leads_pipeline.matching.evaluation import pairwise, score_set
from leads_pipeline.matching.scoring import PairScorer
from leads_pipeline.matching.training import labelled
from leads_pipeline.steps.deduped_leads import VETO_WEIGHT
from leads_pipeline.synthetic import generate_leads

GROUPS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=14)


@given(GROUPS)
def test_counting_groups_gives_what_counting_pairs_gives(groups: list[tuple[int, int]]) -> None:
    truth = {lead: group for lead, (group, _found) in enumerate(groups)}
    found = {lead: group for lead, (_truth, group) in enumerate(groups)}
    pairs = list(combinations(range(len(groups)), 2))
    true = {(a, b) for a, b in pairs if truth[a] == truth[b]}
    claimed = {(a, b) for a, b in pairs if found[a] == found[b]}
    score = pairwise(truth, found)
    assert (score.true_pairs, score.found_pairs, score.correct_pairs) == (len(true), len(claimed), len(true & claimed))
    assert score.precision == (len(true & claimed) / len(claimed) if claimed else 1.0)
    assert score.recall == (len(true & claimed) / len(true) if true else 1.0)


def test_f1_is_the_harmonic_mean_and_an_unknown_lead_is_left_out() -> None:
    score = pairwise({1: "a", 2: "a", 3: "a", 4: "b"}, {1: "x", 2: "x", 3: "y", 5: "x"})
    assert (score.precision, score.recall) == (1.0, 1 / 3)
    assert score.f1 == pytest.approx(0.5)


def test_the_shipped_model_and_cut_offs_hold_what_the_documentation_says(scorer: PairScorer) -> None:
    posts = [lead for lead in generate_leads(4_000, seed=91) if lead.repost_of is None]
    records = labelled(((lead.payload, lead.truth) for lead in posts), today=date(2026, 1, 1))
    settings = MatchingSettings()
    scored = score_set(records, scorer, max_candidates_per_key=settings.max_candidates_per_key)
    found = scored.clustered_at(Limits(merge_weight=settings.merge_weight, veto_weight=VETO_WEIGHT))
    assert scored.blocking_recall > 0.94
    assert found.precision > 0.97
    assert found.recall > 0.88
