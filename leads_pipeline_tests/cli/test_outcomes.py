"""`leads outcomes`: what was told, by kind and by source."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from leads_pipeline.cli import cli
from leads_pipeline.config import DATABASE_URL_VARIABLE
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.outcomes import OutcomeKind
from leads_pipeline_tests.conftest import LEADS_YAML
from leads_pipeline_tests.storage.test_outcomes import person, told


@pytest.fixture
def leads(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Leads":
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "leads.yaml").write_text(LEADS_YAML)
    return Leads(tmp_path / "leads.yaml")


class Leads:
    def __init__(self, config: Path) -> None:
        self._config = config

    def outcomes(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, ["--config", str(self._config), "outcomes", *arguments])


def test_outcomes_are_shown_by_kind_and_by_source(leads: Leads, engine: sa.Engine) -> None:
    now = datetime.now(UTC)
    _contact, lead_id = person(engine, "a@example.org", at=now)
    person(engine, "b@example.org", at=now)
    told(engine, OutcomeKind.HARD_BOUNCE, lead_id=lead_id, at=now)
    told(engine, OutcomeKind.WON, lead_id=uuid7(now), at=now, amount=1200)
    shown = leads.outcomes()
    assert shown.exit_code == 0, shown.output
    assert "1 (50.0%)" in shown.output
    assert "1,200.00" in shown.output
    found = json.loads(leads.outcomes("--json").output)
    assert {item["kind"]: item["unmatched"] for item in found["told"]} == {"hard_bounce": 0, "won": 1}
    assert found["sources"] == [{"tenant": "acme", "source": "website", "leads": 2, "by_kind": {"hard_bounce": 1}}]


def test_nothing_told_is_said(leads: Leads) -> None:
    assert "Nothing was told of the last 7 days" in leads.outcomes("--days", "7").output
