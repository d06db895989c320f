"""`leads matching train`, from the leads to a model that somebody may activate."""

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from leads_pipeline.cli import cli
from leads_pipeline.config import DATABASE_URL_VARIABLE
from leads_pipeline.errors import LeadsError
from leads_pipeline.steps.match_models import list_models
from leads_pipeline_tests.conftest import LEADS_YAML
from leads_pipeline_tests.matching.known_people import invented, make_known

Leads = Callable[..., Result]


@pytest.fixture
def leads(engine: sa.Engine, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Leads:
    """Run ``leads matching`` against a database in which acme has leads to learn from."""
    make_known(engine, invented(1_500))
    (tmp_path / "leads.yaml").write_text(LEADS_YAML)
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["--config", str(tmp_path / "leads.yaml"), "matching", *arguments])

    return run


def test_what_was_trained_is_told_kept_and_activated_by_the_command_that_is_told(
    leads: Leads, engine: sa.Engine, tmp_path: Path
) -> None:
    trained = leads("train", "--tenant", "acme", "--actor", "ada")

    assert trained.exit_code == 0, trained.output
    assert "reading 1,500 of" in trained.output or "reading 1,4" in trained.output
    assert "learning from" in trained.output
    [model, _shipped] = list_models(engine, "acme")
    assert (model.active, model.stored and model.stored.actor) == (False, "ada")
    assert f"model {model.version}, from" in trained.output
    told = f"leads matching activate {model.version} --tenant acme --actor NAME"
    assert told in trained.output
    activated = leads(*told.removeprefix("leads matching ").replace("NAME", "grace").split())
    assert f"the model {model.version} serves" in activated.output
    report = tmp_path / "report.html"
    assert leads("report", model.version, "--tenant", "acme", "--output", str(report)).exit_code == 0
    assert "it serves the tenant" in report.read_text(encoding="utf-8")


def test_a_tenant_without_leads_is_told_how_many_it_takes(leads: Leads) -> None:
    refused = leads("train", "--tenant", "globex", "--actor", "ada")

    assert isinstance(refused.exception, LeadsError)
    assert "has 0 records of leads; training needs 1,000 at least" in str(refused.exception)


def test_what_is_trained_is_trained_by_somebody(leads: Leads) -> None:
    refused = leads("train", "--tenant", "acme")

    assert refused.exit_code == 2
    assert "--actor" in refused.output
