"""The shipped parameters, and the way from labelled leads to parameters."""

import math
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from leads_pipeline.config import MatchingSettings
from leads_pipeline.matching import training
from leads_pipeline.matching.evaluation import Labelled
from leads_pipeline.matching.model import (
    ADJUSTED_FIELDS,
    COMPARISONS,
    FREQUENCY_FIELDS,
    PARAMETERS_FILE,
    Parameters,
    model_directory,
    shipped_parameters,
    splink_settings,
)
from leads_pipeline.matching.training import labelled, train
from leads_pipeline.synthetic import generate_leads

ROOT = Path(__file__).parents[2]
TODAY = date(2026, 1, 1)


def invented(count: int, *, seed: int) -> list[Labelled]:
    return labelled(((lead.payload, lead.truth) for lead in generate_leads(count, seed=seed)), today=TODAY)


def test_the_shipped_parameters_cover_every_level_of_the_code() -> None:
    parameters = shipped_parameters()
    assert {name: set(levels) for name, levels in parameters.levels.items()} == {
        comparison.name: {level.name for level in comparison.levels} for comparison in COMPARISONS
    }
    for levels in parameters.levels.values():
        assert math.isclose(sum(m for m, _u in levels.values()), 1.0, abs_tol=0.01)
        assert math.isclose(sum(u for _m, u in levels.values()), 1.0, abs_tol=0.01)
    assert 0 < parameters.prior < 0.01


def test_agreement_speaks_for_and_disagreement_against() -> None:
    for name, levels in shipped_parameters().levels.items():
        same, different = next(iter(levels.values())), levels["different"]
        assert same[0] / same[1] > 16, name
        assert different[0] < different[1], name


def test_fields_with_frequencies_are_those_of_the_comparisons() -> None:
    used = {level.frequency_of for comparison in COMPARISONS for level in comparison.levels} - {None}
    assert set(ADJUSTED_FIELDS) == used
    assert set(ADJUSTED_FIELDS) - set(FREQUENCY_FIELDS) == {"full_name"}


def test_parameters_survive_their_file() -> None:
    parameters = shipped_parameters()
    assert Parameters.from_json(parameters.to_json()) == parameters
    assert (model_directory() / PARAMETERS_FILE).read_text(encoding="utf-8") == parameters.to_json()


def test_the_report_is_about_the_shipped_parameters() -> None:
    report = (model_directory() / "report.md").read_text(encoding="utf-8")
    for comparison in COMPARISONS:
        for level in comparison.levels:
            m, u = shipped_parameters().levels[comparison.name][level.name]
            assert f"| {m:.4g} | {u:.4g} | {math.log2(m / u):+.2f} |" in report, (comparison.name, level.name)


def test_splink_accepts_the_settings() -> None:
    from splink import SettingsCreator

    settings = SettingsCreator.from_path_or_dict(splink_settings(shipped_parameters()))
    assert len(settings.comparisons) == len(COMPARISONS)


def test_training_is_repeatable_and_learns_what_the_leads_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "RANDOM_PAIRS", 20_000)
    records = invented(1_500, seed=4)
    first = train(records, seed=1, version="test", trained={"leads": 1_500})
    assert train(records, seed=1, version="test", trained={"leads": 1_500}) == first
    assert first.prior_contacts == len({record.truth for record in records})
    same_m, same_u = first.levels["first_name"]["same_full_name"]
    assert same_m > 0.5
    assert same_u < 0.001


def test_the_documentation_states_the_cut_offs() -> None:
    text = (ROOT / "docs" / "identity.md").read_text(encoding="utf-8")
    settings = MatchingSettings()
    assert f"`matching.merge_weight` ({settings.merge_weight:g})" in text
    assert f"`matching.review_weight` ({settings.review_weight:g})" in text
    assert f"below {settings.veto_weight:g} against" in text


@pytest.mark.slow
def test_the_shipped_model_is_what_its_script_gives() -> None:
    script = ROOT / "scripts" / "train_matching_model.py"
    subprocess.run([sys.executable, str(script), "--check"], check=True, timeout=280)
