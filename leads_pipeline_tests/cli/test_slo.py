"""`leads slo`, as an operator and a script use it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from leads_pipeline.cli import cli
from leads_pipeline.clock import FrozenClock, SystemClock
from leads_pipeline.config import DATABASE_URL_VARIABLE, parse_settings
from leads_pipeline.domain.expectations import Group
from leads_pipeline.errors import LeadsError, NotFound
from leads_pipeline.steps.evaluated_slos import evaluate_slos
from leads_pipeline.steps.quality import hold_back
from leads_pipeline_tests.conftest import LEADS_YAML
from leads_pipeline_tests.defs.rows import Flow

Leads = Callable[..., Result]
RULING = ("--actor", "ann", "--reason", "seen, harmless")


@pytest.fixture
def leads(engine: sa.Engine, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Leads:
    (tmp_path / "leads.yaml").write_text(LEADS_YAML)
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["--config", str(tmp_path / "leads.yaml"), "slo", *arguments])

    return run


@pytest.fixture
def lost(engine: sa.Engine) -> None:
    """A lead that was captured and is nowhere, as the last evaluation saw it."""
    with engine.begin() as connection:
        Flow(connection, SystemClock().now()).captured()
    settings = parse_settings(LEADS_YAML, path=Path("leads.yaml"))
    evaluate_slos(engine, settings=settings, clock=SystemClock(), runner_id="test")


def test_a_product_that_was_never_looked_at_is_not_called_well(leads: Leads) -> None:
    listed = leads("list", "--check")

    assert listed.exit_code == 3
    assert "stale" in listed.output
    assert leads("list").exit_code == 0


@pytest.mark.usefixtures("lost")
def test_a_broken_promise_is_listed_with_its_words_and_its_playbook(leads: Leads) -> None:
    listed, shown = leads("list", "--check"), leads("show", "conservation")

    assert listed.exit_code == 1
    assert "broken, page" in listed.output
    assert "every captured lead is in exactly one state" in shown.output
    assert "docs/playbooks/conservation-broken.md" in shown.output
    assert leads("show", "duplicate_contacts", "--check").exit_code == 0


@pytest.mark.usefixtures("lost")
def test_a_script_gets_one_object(leads: Leads) -> None:
    found = json.loads(leads("list", "--json").output)

    rows = {(row["slo"], row["tenant"]): row for row in found["promises"]}
    assert (rows["conservation", "acme"]["verdict"], rows["conservation", "globex"]["verdict"]) == ("broken", "kept")
    assert len(rows) == 14
    assert rows["duplicate_contacts", "acme"]["gate"] == "open"
    assert {row["tenant"] for row in json.loads(leads("list", "--json", "--tenant", "acme").output)["promises"]} == {
        "acme"
    }
    assert json.loads(leads("show", "conservation", "--json").output)["playbook"] == "conservation-broken"


@pytest.mark.usefixtures("lost")
def test_what_is_held_for_its_quality_and_how_fresh_rooms_are_stand_in_the_same_list(
    leads: Leads, engine: sa.Engine, clock: FrozenClock
) -> None:
    with engine.begin() as connection:
        Flow(connection, clock.now(), source="import", lane="batch").at_dedupe()
    group = Group("acme", "import", clock.now().date())
    hold_back(engine, {group: ["email_format"]}, examined=[group], runner_id="run-1", now=clock.now())

    listed = leads("list").output

    for shown in ("acme/import", "email_format", "Freshness", "2026-01-15 12:00:00", "never"):
        assert shown in listed


def test_evaluating_says_what_came_of_it_and_fails_on_a_breach(leads: Leads, engine: sa.Engine) -> None:
    assert leads("evaluate", "--quick").exit_code == 0
    with engine.begin() as connection:
        Flow(connection, SystemClock().now()).captured()

    found = leads("evaluate")

    assert found.exit_code == 1
    assert "broken   conservation" in found.output


def test_an_operator_closes_a_gate_for_a_while_and_everybody_sees_who_and_why(leads: Leads) -> None:
    closed = leads("gate", "close", "duplicate_contacts", "--tenant", "acme", "--for", "30m", *RULING)

    assert closed.exit_code == 0, closed.output
    for where in (leads("gate", "list"), leads("list"), leads("show", "duplicate_contacts")):
        assert "ann" in where.output
        assert "seen, harmless" in where.output
    [found] = json.loads(leads("gate", "list", "--json").output)
    assert (found["state"], found["ruling"], found["tenant"]) == ("closed", "closed", "acme")
    rows = json.loads(leads("show", "duplicate_contacts", "--json").output)["verdicts"]
    assert {row["tenant"]: row["gate"] for row in rows} == {"acme": "closed", "globex": "open"}


def test_a_ruling_is_ended_by_hand(leads: Leads) -> None:
    leads("gate", "open", "duplicate_contacts", *RULING)

    assert leads("gate", "reset", "duplicate_contacts", "--actor", "ann").exit_code == 0
    assert isinstance(leads("gate", "reset", "duplicate_contacts", "--actor", "ann").exception, NotFound)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("gate", "close", "conversation", *RULING), NotFound),
        (("gate", "close", "conservation", "--tenant", "nobody", *RULING), NotFound),
        (("gate", "close", "conservation", "--for", "8d", *RULING), LeadsError),
        (("gate", "close", "conservation", "--for", "soon", *RULING), SystemExit),
        (("gate", "close", "conservation", "--actor", "ann", "--reason", "ask ann@example.com"), SystemExit),
        (("show", "conversation"), NotFound),
    ],
)
def test_what_cannot_be_is_refused(leads: Leads, arguments: tuple[str, ...], error: type[BaseException]) -> None:
    assert isinstance(leads(*arguments).exception, error)


@pytest.mark.parametrize("command", ["list", "show", "evaluate", "gate list", "gate open", "gate close", "gate reset"])
def test_every_command_has_an_example(leads: Leads, command: str) -> None:
    assert "Example: leads slo" in leads(*command.split(), "--help").output
