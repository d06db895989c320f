"""Every command of every playbook is there, and runs; every alert names a playbook and a command that are there."""

import ast
import os
import re
import shlex
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import click
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from leads_pipeline.cli import cli
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import DATABASE_URL_VARIABLE, parse_settings
from leads_pipeline.config.objectives import DEFAULTS
from leads_pipeline.crm.sandbox.hubspot.options import HubSpotOptions
from leads_pipeline.crm.sandbox.running import running_sandbox
from leads_pipeline.defs import alert_sensors
from leads_pipeline.domain.alerting import Observation, Trouble
from leads_pipeline.domain.expectations import Group
from leads_pipeline.domain.severity import Severity
from leads_pipeline.steps.quality import hold_back
from leads_pipeline.steps.raised_alerts import note_observations
from leads_pipeline.storage.alerts import list_alerts
from leads_pipeline.watching.alert_sources import promises, rules
from leads_pipeline_tests.conftest import LEADS_YAML
from leads_pipeline_tests.defs.rows import Flow
from leads_pipeline_tests.steps.alert_receiver import receiving

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(path for path in (ROOT / "docs/playbooks").glob("*.md"))
NAMES = {path.stem for path in PAGES} - {"README"}
LONGEST = 60

MORE_YAML = """
verification:
  mx: {enabled: true}
  providers:
    zerobounce: {vendor: zerobounce, key: {env: LEADS_ZEROBOUNCE_KEY}, cost_per_lookup: 0.008, budget: {per_day: 8}}
  mailbox: [zerobounce]
  tiers: {full: {lookups: [mx, mailbox], patience_seconds: 30}, none: {}}
alerts:
  channels:
    chat: {url: {env: LEADS_CHAT_URL}}
"""


def commands_of(page: Path) -> list[str]:
    blocks = re.findall(r"^```console\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


@pytest.fixture
def run(
    engine: sa.Engine,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[Callable[[str], Result]]:
    """Run a line of a playbook with its words in capitals filled in, in a pipeline that has had some trouble."""
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("LEADS_ZEROBOUNCE_KEY", "a-key")
    crm_options = HubSpotOptions(token="test-token").without_limits()
    # A command that asks Dagster tells it by the environment where things are.
    with patch.dict(os.environ), receiving() as chat, running_sandbox(crm_options) as crm:
        monkeypatch.setenv("LEADS_CHAT_URL", chat.address)
        file = tmp_path / "leads.yaml"
        file.write_text(LEADS_YAML.replace("http://127.0.0.1:9", crm.base_url) + MORE_YAML)
        page: Path = request.node.callspec.params["page"]
        words = seeded(engine, file, with_hold="HOLD" in page.read_text(encoding="utf-8"))

        def invoke(line: str) -> Result:
            filled = re.sub(r"\b[A-Z][A-Z_]{2,}\b", lambda word: words[word[0]], line)
            program, *arguments = shlex.split(filled)
            assert program == "leads"
            return CliRunner().invoke(cli, ["--config", str(file), *arguments])

        yield invoke


def seeded(engine: sa.Engine, file: Path, *, with_hold: bool) -> dict[str, str]:
    """What stands for each word in capitals."""
    now = SystemClock().now()
    settings = parse_settings(file.read_text(), path=file)
    with engine.begin() as connection:
        places = {"source": "import", "lane": "batch"} if with_hold else {}
        flow = Flow(connection, now, **places)
        lead = flow.at_dedupe(email="grace@example.com")
        for table, column in (("raw_leads", "capture_lane"), ("capture_batches", "lane")):
            connection.execute(sa.text(f"update {table} set {column} = :lane"), {"lane": flow.lane})
    if with_hold:
        group = Group("acme", "import", now.date())
        hold_back(engine, {group: ["email_format"]}, examined=[group], runner_id="run-1", now=now)
    trouble = Trouble(Severity.PAGE, "Something is wrong", (), "stuck-run", "leads status")
    seen = [Observation.of("run:near_real_time", trouble)]
    note_observations(engine, "run", seen, settings=settings.alerts, now=now, runner_id="run-1")
    with engine.connect() as connection:
        [alert] = list_alerts(connection, tenant=None, closed=False, limit=2)
    return {
        "ALERT": str(alert.alert_id)[-8:],
        "CHANNEL": "chat",
        "DAY": f"{now - timedelta(days=1):%Y-%m-%d}",
        "DESTINATION": "hubspot",
        "HOLD": "1",
        "JOB": "near_real_time",
        "LEAD": str(lead),
        "LOWER_TIER": "none",
        "NEXT_DAY": f"{now:%Y-%m-%d}",
        "DOMAIN": "example.com",
        "RULE": "backlog_old",
        "SOURCE": "import",
        "TENANT": "acme",
        "TIER": "full",
        "YOU": "grace",
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_playbook_runs(page: Path, run: Callable[[str], Result]) -> None:
    lines = commands_of(page)
    assert lines
    failed = []
    for line in lines:
        result = run(line)
        if result.exit_code != 0:
            failed.append((line, result.exit_code, result.output[-300:], repr(result.exception)[:300]))
    assert not failed, "\n".join(map(str, failed))


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem != "README"], ids=lambda page: page.stem)
def test_a_playbook_is_short_and_says_what_it_must(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST
    heads = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    for wanted in ("How it shows", "What the system already did", "How you know that it is over"):
        assert wanted in heads
    assert {"What to run", "While it lasts"} & set(heads)
    assert f"({page.name})" in (page.parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_playbook_names_in_its_sentences_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for line in re.findall(r"`(leads [^`]+)`", text):
        require_command(line)
    assert set(re.findall(r"\bsee ([a-z]+(?:-[a-z]+)+)\b", text)) <= NAMES


def require_command(line: str) -> None:
    """The command is there, and has the options that it is given."""
    _program, *words = shlex.split(line)
    command: click.Command = cli
    while isinstance(command, click.Group) and words:
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None, line
        command = found
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known, line


def test_every_alert_opens_a_page_that_is_there() -> None:
    named = {
        *alert_sensors.CHECK_PLAYBOOKS.values(),
        *alert_sensors.DELIVERY_PLAYBOOKS.values(),
        alert_sensors.DEFAULT_PLAYBOOK,
        promises.DEFAULT_PLAYBOOK,
        rules.DEFAULT_PLAYBOOK,
        *rules.PLAYBOOKS.values(),
        *(str(promise["playbook"]) for promise in DEFAULTS.values()),
        *(playbook for _command, playbook in troubles_in_code()),
    }
    assert named <= NAMES
    assert named == NAMES, "a page that nothing opens"


def test_every_alert_names_a_command_that_is_there() -> None:
    commands = {command for command, _playbook in troubles_in_code()}
    assert len(commands) >= 8
    for command in commands:
        require_command(command)


SOURCES = [
    *(ROOT / "leads_pipeline/watching/alert_sources").glob("*.py"),
    ROOT / "leads_pipeline/defs/alert_sensors.py",
    ROOT / "leads_pipeline/steps/raised_alerts.py",
]


def troubles_in_code() -> set[tuple[str, str]]:
    """Command and playbook of every ``Trouble`` that is written as a text; names within a command stand as X."""
    found = set()
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts = {
            node.targets[0].id: node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Trouble":
                _severity, _title, _facts, playbook, command = node.args[:5]
                found.add((text_of(command, texts) or "leads status", text_of(playbook, texts) or "stuck-run"))
        for node in ast.walk(tree):  # pages that are handed on
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in NAMES:
                found.add(("leads status", node.value))
    return found


def text_of(node: ast.expr, texts: dict[str, ast.expr]) -> str | None:
    if isinstance(node, ast.Name) and node.id in texts:
        node = texts[node.id]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "X" for part in node.values)
    return None
