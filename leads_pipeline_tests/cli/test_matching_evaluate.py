"""`leads matching evaluate`, as somebody with a labelled file uses it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from leads_pipeline.cli import cli
from leads_pipeline.errors import ImportFileError
from leads_pipeline.storage.embedded import EmbeddedServer
from leads_pipeline_tests.conftest import LEADS_YAML
from leads_pipeline_tests.steps.test_evaluated_matching import hard_rows, write_csv

Evaluate = Callable[..., Result]


@pytest.fixture
def evaluate(
    server: EmbeddedServer, session_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Evaluate:
    """Run it beside the session's server, with 120 leads in ``leads.csv``."""
    assert server.url()
    (tmp_path / "leads.yaml").write_text(f"state_dir: {session_directory / 'server'}\n{LEADS_YAML}")
    write_csv(tmp_path / "leads.csv", hard_rows(120))
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: str, file: str = "leads.csv") -> Result:
        command = ["--config", str(tmp_path / "leads.yaml"), "matching", "evaluate", str(tmp_path / file), *arguments]
        return CliRunner().invoke(cli, command)

    return run


def test_it_prints_and_writes_figures_of_both_ways(evaluate: Evaluate, tmp_path: Path) -> None:
    result = evaluate("--truth", "person", "--replay", "50", "--json", str(tmp_path / "figures.json"))
    assert result.exit_code == 0, result.output
    for shown in ("the truth is person", "120 rows", "pairwise", "B-cubed", "replay by 50", "MiB", "replay and full"):
        assert shown in result.output
    figures = json.loads((tmp_path / "figures.json").read_text())
    for run in ("full", "replay"):
        for measure in ("pairwise", "bcubed"):
            assert 0.5 < figures[run][measure]["f1"] <= 1
            assert figures[run][measure].keys() >= {"precision", "recall", "f1"}
        assert figures[run]["contacts"]["groups"] > 1
    assert isinstance(figures["replay_equals_full"], bool)


def test_what_the_leads_hold_is_not_printed(evaluate: Evaluate, tmp_path: Path) -> None:
    result = evaluate("--truth", "person", "--json", str(tmp_path / "figures.json"))
    names = {row["last_name"].strip() for row in hard_rows(120) if len(row["last_name"].strip()) > 4}
    told = result.output + (tmp_path / "figures.json").read_text()
    assert not [name for name in names if name in told]


def test_without_a_replay_no_database_is_touched(evaluate: Evaluate, tmp_path: Path) -> None:
    (tmp_path / "leads.yaml").write_text(f"state_dir: {tmp_path / 'nowhere'}\n{LEADS_YAML}")
    result = evaluate("--truth", "person")
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "nowhere").exists()
    assert "replay and full" not in result.output


def test_columns_are_mapped_one_by_one_or_by_a_file(evaluate: Evaluate, tmp_path: Path) -> None:
    text = (tmp_path / "leads.csv").read_text().replace("first_name", "vorname", 1).replace("email", "anschrift", 1)
    (tmp_path / "other.csv").write_text(text)
    (tmp_path / "map.yaml").write_text("vorname: first_name\n")
    result = evaluate(
        "--truth", "person", "--map", "anschrift=email", "--map", str(tmp_path / "map.yaml"), "--map", "company=",
        file="other.csv",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "vorname as first_name" in result.output
    assert "anschrift as email" in result.output
    assert "company" not in result.output.partition("\n")[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--truth", "whose"), "has no column 'whose'.*first_name"),
        (("--truth", "person", "--map", "nobody=email"), "there is no column 'nobody'"),
        (("--truth", "person", "--map", "missing.yaml"), "cannot read the column map"),
        (("--truth", "person", "--sheet", "2"), "--sheet is for excel"),
    ],
)
def test_what_does_not_fit_the_file_is_said_in_one_sentence(
    evaluate: Evaluate, arguments: tuple[str, ...], words: str
) -> None:
    result = evaluate(*arguments)
    assert result.exit_code != 0
    assert isinstance(result.exception, ImportFileError)
    with pytest.raises(ImportFileError, match=words):
        raise result.exception


def test_a_country_that_is_none_and_a_file_that_is_not_there_are_refused(evaluate: Evaluate) -> None:
    assert "no country code" in evaluate("--truth", "person", "--country", "America").output
    missing = evaluate("--truth", "person", file="absent.csv")
    assert isinstance(missing.exception, ImportFileError)
