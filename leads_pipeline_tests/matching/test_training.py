"""A model that fits itself to leads of which nobody says whose they are."""

import math
from dataclasses import replace
from datetime import date

import pytest

from leads_pipeline.config import MatchingSettings
from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.matching import training
from leads_pipeline.matching.evaluation import Labelled, limits_of, score_set
from leads_pipeline.matching.model import COMPARISONS, Parameters, shipped_parameters
from leads_pipeline.matching.scoring import FREQUENCY_PRIOR_CONTACTS, PairScorer
from leads_pipeline.matching.training import adapt, labelled
from leads_pipeline.synthetic import TUNING_SEEDS, hard_leads

CAP = MatchingSettings().max_candidates_per_key


@pytest.fixture(scope="module")
def leads() -> list[Labelled]:
    found = hard_leads(3_000, seed=TUNING_SEEDS[3])
    return labelled(((lead.payload, lead.truth) for lead in found), today=date(2026, 1, 1))


@pytest.fixture(autouse=True)
def fewer_random_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "RANDOM_PAIRS", 50_000)


def adapted(records: list[MatchFields], base: Parameters) -> Parameters:
    return adapt(records, base, seed=1, version="own", max_candidates_per_key=CAP)


def f1(records: list[Labelled], parameters: Parameters) -> float:
    scored = score_set(records, PairScorer(parameters), max_candidates_per_key=CAP)
    return scored.clustered_at(limits_of(MatchingSettings())).f1


def fields(records: list[Labelled]) -> list[MatchFields]:
    return [record.fields for record in records]


def spoilt(parameters: Parameters) -> Parameters:
    """A model that expects other leads: hardly any of one person, names and mailboxes that are never twice the same."""
    levels = {name: dict(found) for name, found in parameters.levels.items()}
    levels["first_name"] = {
        name: (m if name == "same_full_name" else m / 8, u) for name, (m, u) in levels["first_name"].items()
    }
    levels["mailbox"] = {name: (m / 8 if name == "same" else m, u) for name, (m, u) in levels["mailbox"].items()}
    return replace(parameters, levels=levels, prior=parameters.prior / 60)


def test_a_model_finds_out_for_itself_what_its_leads_are_like(leads: list[Labelled]) -> None:
    wrong = spoilt(shipped_parameters())
    fitted = adapted(fields(leads), wrong)
    assert f1(leads, fitted) > f1(leads, wrong) + 0.02
    matches = sum(1 for _pair in training.true_pairs(leads))
    assert fitted.trained["expected_matches"] == pytest.approx(matches, rel=0.2)


def test_it_does_not_hurt_where_the_model_was_right(leads: list[Labelled]) -> None:
    base = shipped_parameters()
    assert f1(leads, adapted(fields(leads), base)) > f1(leads, base) - 0.01


def test_the_truth_is_not_asked_for_and_the_same_leads_give_the_same_model(leads: list[Labelled]) -> None:
    some = fields(leads)[:800]
    first = adapted(some, shipped_parameters())
    assert adapted(some, shipped_parameters()) == first
    assert first.version == "own"
    for comparison in COMPARISONS:
        for m, u in first.levels[comparison.name].values():
            assert 0 < m < 1
            assert 0 < u <= 1


def test_a_comparison_of_which_the_leads_say_nothing_stays_what_it_was(leads: list[Labelled]) -> None:
    base = shipped_parameters()
    unborn = [replace(record, date_of_birth=None) for record in fields(leads)]
    fitted = adapted(unborn, base)
    for name, (m, u) in base.levels["born"].items():
        assert math.log2(fitted.levels["born"][name][0] / m) == pytest.approx(0.0, abs=1.0), name
        assert fitted.levels["born"][name][1] == pytest.approx(u, rel=0.5, abs=0.01), name


def test_a_sample_of_more_leads_knows_that_there_are_more_people(leads: list[Labelled]) -> None:
    some = fields(leads)
    whole = adapted(some, shipped_parameters())
    part = adapt(some, shipped_parameters(), seed=1, version="own", max_candidates_per_key=CAP, drawn_from=30_000)
    assert part.prior == whole.prior
    assert part.prior_contacts == pytest.approx(10 * whole.prior_contacts, rel=0.01)
    told = adapt(some, shipped_parameters(), seed=1, version="own", max_candidates_per_key=CAP, contacts=12_000)
    assert (told.prior, told.prior_contacts) == (whole.prior, 12_000)


def test_more_leads_than_are_needed_are_sampled(leads: list[Labelled], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "MOST_RECORDS", 1_000)
    fitted = adapted(fields(leads), shipped_parameters())
    assert fitted.trained["records"] == 1_000
    assert fitted.prior_contacts > 2 * FREQUENCY_PRIOR_CONTACTS


@pytest.mark.parametrize("count", [0, 1, 2])
def test_hardly_any_leads_leave_a_model_that_can_score(count: int) -> None:
    lead = MatchFields(email_key="anna@firm.com", first_name_key="anna")
    fitted = adapted([lead] * count, shipped_parameters())
    (pair,) = PairScorer(fitted).score([lead, lead], [(0, 1)], frequencies=training.count_terms([lead]))
    assert math.isfinite(pair.match_weight)
