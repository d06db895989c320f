"""`leads suppressions`, as an operator uses it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from leads_pipeline.cli import cli
from leads_pipeline.config import DATABASE_URL_VARIABLE
from leads_pipeline.errors import ConfigError, NotFound
from leads_pipeline_tests.conftest import LEADS_YAML

Leads = Callable[..., Result]


@pytest.fixture
def leads(engine: sa.Engine, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Leads:
    """Run ``leads suppressions``."""
    (tmp_path / "leads.yaml").write_text(LEADS_YAML)
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ("--config", str(tmp_path / "leads.yaml"), "suppressions", *arguments))

    return run


def test_somebody_is_listed_found_and_let_go_without_showing(leads: Leads) -> None:
    who = ("--tenant", "acme", "--email", "ada@listed.example")
    added = leads("add", *who, "--actor", "ops", "--reason", "asked us to")
    assert (added.exit_code, added.output) == (0, "suppression 1: by email, all\n")
    assert leads("add", *who, "--actor", "ops").output == "it stands already\n"
    found = leads("list", *who)
    assert "asked us to (ops)" in found.output
    assert "ada" not in found.output
    assert leads("list", "--tenant", "acme", "--email", "byron@listed.example").output == "no suppressions\n"
    assert leads("end", "1", "--actor", "ops").output == "ended 1; 0 contact(s) are judged again\n"
    assert leads("list").output == "no suppressions\n"
    assert "ended by ops" in leads("list", "--all").output
    assert leads("judge-again", "--tenant", "acme").output == "0 contact(s) are judged again\n"


def test_what_is_missing_is_said(leads: Leads) -> None:
    assert "say who" in leads("add", "--tenant", "acme", "--actor", "ops").output
    two = ("--email", "ada@listed.example", "--phone", "+14155552671")
    assert "at a time" in leads("add", "--tenant", "acme", *two, "--actor", "ops").output
    assert "--tenant" in leads("list", "--phone", "+14155552671").output
    assert isinstance(leads("end", "7", "--actor", "ops").exception, NotFound)
    wrong = leads("add", "--tenant", "acme", "--phone", "12", "--actor", "ops")
    assert isinstance(wrong.exception, ConfigError)
    wide = leads("add", "--tenant", "acme", "--domain", "com", "--actor", "ops")
    assert "the value is no domain: write it as example.com" in str(wide.exception)
    assert "leads.yaml has no tenant 'acmee'" in leads("list", "--tenant", "acmee").output
    slip = leads("judge-again", "--tenant", "acme", "--destination", "hubspto")
    assert "leads.yaml has no destination 'hubspto'" in slip.output
    assert "Missing option '--actor'" in leads("add", "--tenant", "acme", "--email", "ada@listed.example").output
