"""`leads matching rebuild`, as an operator uses it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from leads_pipeline.cli import cli
from leads_pipeline.config import DATABASE_URL_VARIABLE, MatchingSettings, Settings
from leads_pipeline_tests.conftest import LEADS_YAML
from leads_pipeline_tests.steps.identity_play import Play

ANNA = {"full_name": "Anna Kowalczyk", "email": "anna.kowalczyk@northwind.com", "company": "Northwind GmbH"}
Leads = Callable[..., Result]


@pytest.fixture
def play(engine: sa.Engine, settings: Settings) -> Play:
    """One person's two leads, each taken for somebody else's."""
    never = MatchingSettings(rules=(), merge_weight=1e6, review_weight=1e6)
    play = Play(engine, settings.model_copy(update={"matching": never}))
    play.arrive(**ANNA), play.arrive(**ANNA)
    return play


@pytest.fixture
def leads(play: Play, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Leads:
    (tmp_path / "leads.yaml").write_text(LEADS_YAML)
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)

    def run(*arguments: str, answer: str | None = None) -> Result:
        command = ["--config", str(tmp_path / "leads.yaml"), "matching", "rebuild", "--tenant", "acme", *arguments]
        return CliRunner().invoke(cli, command, input=answer)

    return run


def contacts(play: Play) -> int:
    return len(set(play.contact_of().values()))


def test_it_shows_what_would_differ_and_changes_nothing(leads: Leads, play: Play, tmp_path: Path) -> None:
    shown = leads("--json", str(tmp_path / "difference.json"))

    assert shown.exit_code == 0, shown.output
    assert "contacts: 2 now, 1 after; 0 unchanged" in shown.output
    assert "merges: 1, splits: 0, moves: 0; 1 leads change their contact" in shown.output
    assert "nothing was changed" in shown.output
    assert not [line for line in shown.output.splitlines() if len(line) > 80 and "written to" not in line]
    assert contacts(play) == 2
    text = (tmp_path / "difference.json").read_text(encoding="utf-8")
    assert "kowalczyk" not in text.lower()
    document = json.loads(text)
    ((decision,),) = document["changes"]
    first, second = play.contact_of().items()
    assert (decision["kind"], decision["actor"]) == ("merge", "rule:same_email")
    assert (decision["from"], decision["to"], decision["leads"]) == (str(second[1]), str(first[1]), [str(second[0])])
    assert (document["merges"], document["moved_leads"], document["reviews"]) == (1, 1, [])


def test_it_is_written_once_a_person_has_said_so(leads: Leads, play: Play) -> None:
    nobody = leads("--apply", "--yes")
    assert nobody.exit_code == 2
    assert "--apply needs --actor" in nobody.output
    refused = leads("--apply", "--actor", "anna", answer="n\n")
    assert refused.exit_code == 1
    assert contacts(play) == 2

    agreed = leads("--apply", "--actor", "anna", "--reason", "new model", answer="y\n")
    assert agreed.exit_code == 0, agreed.output
    assert "1 changes written: 1 decisions, 1 leads" in agreed.output
    assert contacts(play) == 1
    (decision,) = play.decisions()
    assert decision["reason"].endswith(", applied by person:anna: new model")

    again = leads("--apply", "--yes", "--actor", "anna")
    assert "contacts: 1 now, 1 after; 1 unchanged" in again.output
    assert "written" not in again.output


def test_a_model_that_is_not_there_is_named(leads: Leads) -> None:
    refused = leads("--model", "2020-01-01.1")

    assert refused.exit_code == 1
    assert "2020-01-01.1" in str(refused.exception)


def test_the_shipped_model_can_be_asked_for(leads: Leads) -> None:
    assert leads("--model", "shipped").exit_code == 0
