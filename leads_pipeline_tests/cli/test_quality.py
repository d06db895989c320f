"""`leads quality`, as an operator uses it."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from leads_pipeline.cli import cli
from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import DATABASE_URL_VARIABLE
from leads_pipeline.domain.expectations import Group
from leads_pipeline.errors import NotFound
from leads_pipeline.steps.quality import hold_back
from leads_pipeline_tests.conftest import LEADS_YAML
from leads_pipeline_tests.defs.rows import Flow

Leads = Callable[..., Result]


@pytest.fixture
def leads(
    engine: sa.Engine, database_url: str, clock: FrozenClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Leads:
    """Run ``leads quality`` against a database that holds two leads, one of them broken, as hold 1."""
    with engine.begin() as connection:
        flow = Flow(connection, clock.now(), source="import", lane="batch")
        flow.at_dedupe(email="quite secret")
        flow.at_dedupe()
    group = Group("acme", "import", clock.now().date())
    hold_back(engine, {group: ["email_format"]}, examined=[group], runner_id="run-1", now=clock.now())
    (tmp_path / "leads.yaml").write_text(LEADS_YAML)
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["--config", str(tmp_path / "leads.yaml"), "quality", *arguments])

    return run


def due(engine: sa.Engine, clock: FrozenClock) -> int:
    statement = sa.text("select count(*) from pending where stage = 'deduped_leads' and due_at < :now")
    with engine.connect() as connection:
        return connection.execute(statement, {"now": clock.now() + timedelta(days=36_500)}).scalar_one()


def test_what_is_held_is_listed_without_anybody_s_values(leads: Leads) -> None:
    listed = leads("list")
    assert listed.exit_code == 0
    for shown in ("acme/import", "2026-01-15", "email_format", "open"):
        assert shown in listed.output
    assert "secret" not in listed.output
    assert "nothing is held" in leads("list", "--tenant", "globex").output


def test_a_hold_is_released_by_name_and_with_a_reason(leads: Leads, engine: sa.Engine, clock: FrozenClock) -> None:
    assert due(engine, clock) == 0
    for missing in (("--actor", "grace"), ("--reason", "fair")):
        assert leads("release", "1", *missing).exit_code == 2
    released = leads("release", "1", "--actor", "grace", "--reason", "a test of the fair")
    assert "2 lead(s) wait to be matched" in released.output
    assert due(engine, clock) == 2
    assert "nothing is held" in leads("list").output
    assert "released by grace" in leads("list", "--all").output
    assert "a test of the fair" in leads("list", "--all").output
    assert isinstance(leads("release", "1", "--actor", "grace", "--reason", "again").exception, NotFound)


def test_a_recheck_says_what_is_still_broken_and_fails(leads: Leads) -> None:
    rechecked = leads("recheck", "1", "--actor", "grace")
    assert rechecked.exit_code == 1
    assert rechecked.output.split() == ["email_format", "1", "of", "2", "leads"]


def test_a_recheck_of_mended_leads_lets_them_pass(leads: Leads, engine: sa.Engine, clock: FrozenClock) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("update validated_leads set email = email_key"))
    rechecked = leads("recheck", "1", "--actor", "grace")
    assert (rechecked.exit_code, rechecked.output) == (0, "hold 1 has ended: its leads break no rule\n")
    assert due(engine, clock) == 2
    assert "passed by grace" in leads("list", "--all").output


def test_leads_are_sent_through_validation_again(leads: Leads) -> None:
    sent = leads("recheck", "1", "--actor", "grace", "--validate-again", "--reason", "mapping mended")
    assert (sent.exit_code, "2 lead(s) wait to be validated again" in sent.output) == (0, True)
    assert "validating 2 again" in leads("list").output


def test_a_drift_is_told_in_shares(leads: Leads, engine: sa.Engine, clock: FrozenClock) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("update validated_leads set email = email_key"))
        flow = Flow(connection, clock.now(), source="import", lane="batch")
        for _ in range(20):
            flow.validated(received_at=clock.now() - timedelta(days=1), phone="+14155550123", phone_key="1")
            flow.at_dedupe()
    rechecked = leads("recheck", "1", "--actor", "grace")
    assert rechecked.exit_code == 1
    assert " ".join(rechecked.output.split()) == "phone_share 0 % of 22 leads, expected at least 80 %"
