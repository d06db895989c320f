"""`leads conservation`: the books by tenant and day, and the exit code that says whether they are right."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from leads_pipeline.cli import cli
from leads_pipeline.config import DATABASE_URL_VARIABLE
from leads_pipeline_tests.conftest import LEADS_YAML
from leads_pipeline_tests.storage.test_conservation_by_day import MONDAY, TUESDAY, of_day

Conserved = Callable[..., Result]


@pytest.fixture
def conservation(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Conserved:
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    monkeypatch.setenv("COLUMNS", "160")
    (tmp_path / "leads.yaml").write_text(LEADS_YAML)
    return lambda *arguments: CliRunner().invoke(
        cli, ["--config", str(tmp_path / "leads.yaml"), "conservation", *arguments]
    )


@pytest.fixture
def lost(engine: sa.Engine) -> str:
    """Two days of leads, of which one of Tuesday lost its row in the identity."""
    with engine.begin() as connection:
        of_day(connection, MONDAY)
        leads = of_day(connection, TUESDAY)
        of_day(connection, TUESDAY, tenant="globex")
        connection.execute(sa.text("delete from deduped_leads where lead_id = :id"), {"id": leads["merged"]})
    return str(leads["merged"])


def test_the_day_and_the_lead_that_is_missing_are_named(conservation: Conserved, lost: str) -> None:
    shown = conservation()
    assert shown.exit_code == 1, shown.output
    assert lost in shown.output
    assert "deduped_leads" in shown.output
    assert "The law holds" not in shown.output
    found = json.loads(conservation("--json").output)
    assert [(day["day"], day["tenant"], day["conserved"], day["missing"]) for day in found["days"]] == [
        ("2026-01-12", "acme", True, 0), ("2026-01-13", "acme", False, 1), ("2026-01-13", "globex", True, 0),
    ]  # fmt: skip
    assert [(item["lead_id"], item["day"], item["lacks"]) for item in found["missing_leads"]] == [
        (lost, "2026-01-13", "deduped_leads")
    ]


def test_of_old_days_those_are_shown_on_which_the_law_does_not_hold(
    conservation: Conserved, lost: str, engine: sa.Engine
) -> None:
    with engine.begin() as connection:
        for day in range(1, 15):
            of_day(connection, TUESDAY + timedelta(days=day))
    shown = conservation().output
    assert ("2026-01-12" in shown, "2026-01-13" in shown) == (False, True)
    assert "2 older rows" in shown  # Monday's, and that of globex
    assert "The law holds: every lead" in conservation("--since", "2026-01-14").output


@pytest.mark.parametrize(
    ("arguments", "days", "code"),
    [
        (["--day", "2026-01-12"], ["2026-01-12 acme"], 0),
        (["--day", "2026-01-13"], ["2026-01-13 acme", "2026-01-13 globex"], 1),
        (["--day", "2026-01-13", "--tenant", "globex"], ["2026-01-13 globex"], 0),
        (["--since", "2026-01-13"], ["2026-01-13 acme", "2026-01-13 globex"], 1),
        (["--tenant", "globex"], ["2026-01-13 globex"], 0),
        (["--since", "2026-01-14"], [], 0),
    ],
)
def test_some_days_or_one_tenant_are_judged_alone(
    conservation: Conserved, lost: str, arguments: list[str], days: list[str], code: int
) -> None:
    answer = conservation(*arguments, "--json")
    assert answer.exit_code == code
    found = json.loads(answer.output)
    assert [f"{day['day']} {day['tenant']}" for day in found["days"]] == days
    assert found["conserved"] == (code == 0)
    assert conservation(*arguments).exit_code == code


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--tenant", "nobody"], "has no tenant 'nobody'; it has: acme, globex"),
        (["--day", "2026-01-13", "--since", "2026-01-13"], "not both"),
        (["--day", "yesterday"], "does not match the format"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused(conservation: Conserved, arguments: list[str], said: str) -> None:
    refused = conservation(*arguments)
    assert refused.exit_code == 2
    assert said in refused.output


def test_leads_that_no_row_knows_any_more_are_counted(conservation: Conserved, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        of_day(connection, MONDAY)
        connection.execute(sa.text("delete from ingest_keys"))
        connection.execute(sa.text("delete from buffer"))
    shown = conservation("--day", "2026-01-12")
    assert shown.exit_code == 1
    assert "1 leads were captured and no row knows them any more" in shown.output
