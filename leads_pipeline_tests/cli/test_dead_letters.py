"""`leads dead-letters`, as an operator uses it."""

from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from leads_pipeline.cli import cli
from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import DATABASE_URL_VARIABLE
from leads_pipeline.errors import NotFound
from leads_pipeline_tests.conftest import LEADS_YAML
from leads_pipeline_tests.defs.rows import Flow

Leads = Callable[..., Result]


@pytest.fixture
def leads(
    engine: sa.Engine, database_url: str, clock: FrozenClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Leads:
    """Run ``leads dead-letters`` against a database with one open letter."""
    with engine.begin() as connection:
        Flow(connection, clock.now()).one_of_each()
        connection.execute(sa.text("""update dead_letters set payload = '{"email": "ada@example.com"}'"""))
    (tmp_path / "leads.yaml").write_text(LEADS_YAML)
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["--config", str(tmp_path / "leads.yaml"), "dead-letters", *arguments])

    return run


def _letter(engine: sa.Engine) -> UUID:
    with engine.connect() as connection:
        return connection.execute(sa.text("select dead_letter_id from dead_letters")).scalar_one()


def test_a_letter_is_listed_shown_masked_and_revealed_on_demand(leads: Leads, engine: sa.Engine) -> None:
    letter = str(_letter(engine))
    listed, masked, revealed = leads("list"), leads("show", letter), leads("show", letter, "--reveal")
    assert letter in listed.output
    assert "ada@example.com" not in listed.output + masked.output
    assert "email" in masked.output
    assert "ada@example.com" in revealed.output
    assert (listed.exit_code, masked.exit_code, revealed.exit_code) == (0, 0, 0)


def test_a_letter_s_id_is_listed_whole_in_a_narrow_terminal(
    leads: Leads, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert str(_letter(engine)) in leads("list").output


def test_a_redriven_letter_is_listed_only_among_all(leads: Leads, engine: sa.Engine) -> None:
    letter = str(_letter(engine))
    assert "waits to be sent" in leads("redrive", letter, "--actor", "grace").output
    assert "was resolved already" in leads("redrive", letter, "--actor", "grace").output
    assert "no dead letters" in leads("list").output
    assert "redriven by grace" in leads("list", "--all").output


def test_a_discarded_letter_says_how_many_leads_went_with_it(leads: Leads, engine: sa.Engine) -> None:
    letter = str(_letter(engine))
    assert "discarded, with 1 lead(s)" in leads("discard", letter, "--actor", "grace", "--reason", "gone").output
    assert "was resolved already" in leads("discard", letter, "--actor", "grace", "--reason", "gone").output


def test_nothing_is_decided_without_a_name(leads: Leads, engine: sa.Engine) -> None:
    refused = leads("discard", str(_letter(engine)), "--reason", "gone")
    assert refused.exit_code == 2
    assert "--actor" in refused.output


@pytest.mark.parametrize("command", ["show", "redrive"])
def test_a_letter_that_does_not_exist_is_refused(command: str, leads: Leads) -> None:
    extra = ["--actor", "grace"] if command == "redrive" else []
    assert isinstance(leads(command, str(uuid4()), *extra).exception, NotFound)
