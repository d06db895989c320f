"""`leads matching list|report|activate|rollback`, as an operator uses them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from leads_pipeline.cli import cli
from leads_pipeline.config import DATABASE_URL_VARIABLE
from leads_pipeline.errors import LeadsError, NotFound
from leads_pipeline_tests.conftest import LEADS_YAML, NOW
from leads_pipeline_tests.matching.models import changed, document_of, keep

Leads = Callable[..., Result]
BY = ("--actor", "grace")


@pytest.fixture
def leads(engine: sa.Engine, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Leads:
    """Run ``leads matching`` against a database with one trained model of acme's."""
    keep(engine, changed("2026-01-15.1", prior_factor=0.5), now=NOW)
    (tmp_path / "leads.yaml").write_text(LEADS_YAML)
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["--config", str(tmp_path / "leads.yaml"), "matching", *arguments])

    return run


def row(leads: Leads, version: str) -> str:
    [found] = [
        line for line in leads("list", "--tenant", "acme").output.splitlines() if line.strip().startswith(version)
    ]
    return found


def test_the_list_says_which_model_serves_and_how_each_did(leads: Leads) -> None:
    assert "yes" in row(leads, "shipped")
    trained = row(leads, "2026-01-15.1")
    for shown in ("no", "2026-01-15 12:00", "ada", "1,000", "none decided"):
        assert shown in trained


def test_a_model_is_activated_and_taken_back_by_name(leads: Leads) -> None:
    activated = leads("activate", "2026-01-15.1", "--tenant", "acme", *BY, "--reason", "read its report")
    assert activated.output == "acme: the model 2026-01-15.1 serves from the next chunk on; before it did shipped\n"
    assert "yes, since" in row(leads, "2026-01-15.1")

    back = leads("rollback", "--tenant", "acme", *BY)
    assert back.output == "acme: the model shipped serves from the next chunk on; before it did 2026-01-15.1\n"
    refused = leads("rollback", "--tenant", "acme", *BY)
    assert isinstance(refused.exception, LeadsError)
    assert "nothing to go back to" in str(refused.exception)


def test_what_is_decided_is_decided_by_somebody(leads: Leads) -> None:
    refused = leads("activate", "2026-01-15.1", "--tenant", "acme")
    assert refused.exit_code == 2
    assert "--actor" in refused.output


def test_which_tenant_is_meant_must_be_said_where_there_are_several(leads: Leads) -> None:
    for arguments, told in (((), "name a tenant"), (("--tenant", "initech"), "there is no tenant 'initech'")):
        refused = leads("list", *arguments)
        assert refused.exit_code == 2
        assert told in refused.output
        assert "there are: acme, globex" in refused.output


def test_a_model_that_the_code_has_left_behind_is_listed_with_the_reason(leads: Leads, engine: sa.Engine) -> None:
    old = document_of(changed("old"))
    del old["levels"]["email"]
    keep(engine, old, now=NOW)

    listed = leads("list", "--tenant", "acme").output

    assert "warning: the model old does not fit this version's comparisons: it has no comparison email" in listed


@pytest.mark.parametrize("version", ["shipped", "2026-01-15.1"])
def test_a_report_is_one_file_that_needs_nothing_else(leads: Leads, version: str, tmp_path: Path) -> None:
    output = tmp_path / "report.html"

    written = leads("report", version, "--tenant", "acme", "--output", str(output))

    assert written.output == f"wrote {output}\n"
    assert "<svg" in output.read_text(encoding="utf-8")


def test_a_report_of_a_model_that_is_not_there_is_refused(leads: Leads, tmp_path: Path) -> None:
    refused = leads("report", "2026-01-16.1", "--tenant", "acme", "--output", str(tmp_path / "report.html"))

    assert isinstance(refused.exception, NotFound)
    assert "there are: shipped, 2026-01-15.1" in str(refused.exception)
    assert not (tmp_path / "report.html").exists()
