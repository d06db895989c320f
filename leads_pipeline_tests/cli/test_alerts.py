"""`leads alerts`, as an operator uses it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from leads_pipeline.cli import cli
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import DATABASE_URL_VARIABLE, parse_settings
from leads_pipeline.domain.alerting import Observation, Trouble
from leads_pipeline.domain.severity import Severity
from leads_pipeline.errors import LeadsError, NotFound
from leads_pipeline.steps.raised_alerts import note_observations
from leads_pipeline_tests.conftest import LEADS_YAML
from leads_pipeline_tests.steps.alert_receiver import Receiver, receiving

Leads = Callable[..., Result]
CHANNELS = "\nalerts: {channels: {chat: {url: {env: LEADS_CHAT_URL}}}}\n"
TITLE = "Runs of the job maintenance fail"


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiving() as receiver:
        monkeypatch.setenv("LEADS_CHAT_URL", receiver.address)
        yield receiver


@pytest.fixture
def leads(
    engine: sa.Engine, database_url: str, chat: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Leads:
    """Run ``leads alerts`` in a pipeline with one open alert."""
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    monkeypatch.setenv("COLUMNS", "200")
    file = tmp_path / "leads.yaml"
    file.write_text(LEADS_YAML + CHANNELS)
    alerts = parse_settings(file.read_text(), path=file).alerts
    facts = (("failed in a row", "3"),)
    seen = [Observation.of("run:maintenance", Trouble(Severity.TICKET, TITLE, facts, "stuck-run", "leads runs list"))]
    note_observations(engine, "run", seen, settings=alerts, now=SystemClock().now(), runner_id="run-1")
    return lambda *arguments: CliRunner().invoke(cli, ["--config", str(file), "alerts", *arguments])


def short_id(leads: Leads) -> str:
    [alert] = json.loads(leads("list", "--json").output)["alerts"]
    return str(alert["alert_id"])[-8:]


def test_open_alerts_are_listed_with_what_is_unsent(leads: Leads, engine: sa.Engine) -> None:
    listed = leads("list")
    assert listed.exit_code == 0
    for shown in (TITLE, "ticket", "stuck-run", "open", "chat: 1 message(s) unsent"):
        assert shown in listed.output
    assert "no alert is open" in leads("list", "--tenant", "acme").output
    with engine.begin() as connection:
        connection.execute(sa.text("update alert_notices set created_at = created_at - interval '11 minutes'"))
    assert "nobody sends. Is Dagster's sensor alerts_waiting on?" in leads("list").output


def test_an_alert_is_shown_with_what_became_of_its_messages(leads: Leads) -> None:
    alert = short_id(leads)
    assert "opened to chat: waiting" in leads("show", alert).output
    assert leads("send").exit_code == 0
    shown = leads("show", alert).output
    for told in ("failed in a row: 3", "Look: leads runs list", "docs/playbooks/stuck-run.md", "opened to chat: sent"):
        assert told in shown
    assert json.loads(leads("show", alert, "--json").output)["notices"][0]["state"] == "sent"
    assert leads("show", "bfa0").exit_code == 2
    assert isinstance(leads("show", "ffffffffffff").exception, NotFound)


def test_an_alert_is_closed_by_name_and_everybody_who_knew_is_told(leads: Leads, chat: Receiver) -> None:
    alert = short_id(leads)
    leads("send")
    assert leads("resolve", alert).exit_code == 2
    assert leads("resolve", alert, "--actor", "grace").exit_code == 0
    assert "no alert is open" in leads("list").output
    assert "Closed by grace" in leads("show", alert).output
    leads("send")
    assert chat.titles == [f"[ticket] {TITLE}", f"[over] {TITLE}"]
    assert isinstance(leads("resolve", alert, "--actor", "grace").exception, LeadsError)


def test_a_channel_is_tried_by_hand(leads: Leads, chat: Receiver) -> None:
    assert leads("test", "chat").output == "chat took the message\n"
    assert chat.titles == ["[test] leads_pipeline can reach you"]
    chat.status = 403
    failed = leads("test", "chat")
    assert failed.exit_code == 1
    assert str(failed.exception) == "chat took no message: it answered HTTP 403"
    assert isinstance(leads("test", "pager").exception, NotFound)


def test_a_round_that_could_not_tell_everybody_fails(leads: Leads, chat: Receiver) -> None:
    chat.status = 500
    sent = leads("send")
    assert sent.exit_code == 1
    assert "chat: not sent: it answered HTTP 500" in sent.output
    assert "tried again" in leads("list").output
