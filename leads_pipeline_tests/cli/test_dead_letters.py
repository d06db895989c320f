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
from leads_pipeline_tests.conftest import LEADS_YAML, NOW
from leads_pipeline_tests.defs.rows import Flow, insert

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

    def run(*arguments: str, answer: str | None = None) -> Result:
        arguments = ("--config", str(tmp_path / "leads.yaml"), "dead-letters", *arguments)
        return CliRunner().invoke(cli, arguments, input=answer)

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


def test_every_attempt_and_what_was_done_is_shown(leads: Leads, engine: sa.Engine) -> None:
    letter = str(_letter(engine))
    with engine.begin() as connection:
        row = connection.execute(sa.text("select outbox_id, contact_id, version from dead_letters")).one()
        insert(
            connection, "sync_attempts", now=NOW, batch_id=UUID(int=7), attempt=3, verdict="invalid",
            code="BAD_EMAIL", **row._mapping,
        )  # fmt: skip
        insert(connection, "crm_sync_batches", now=NOW, batch_id=UUID(int=7), http_status=207, correlation_id="abc")
    leads("redrive", letter, "--actor", "grace", "--reason", "TICKET-7", "--rate", "2")
    shown = leads("show", letter).output
    assert "attempt 3     2026-01-15 12:00:00 UTC: invalid BAD_EMAIL (HTTP 207, request abc)" in shown
    assert "by grace" in shown
    assert "per_second 2" in shown
    assert "TICKET-7" in shown


def test_letters_are_chosen_by_a_filter_and_somebody_says_yes(leads: Leads, engine: sa.Engine) -> None:
    by_filter = ("--actor", "grace", "--tenant", "acme")
    refused = leads("redrive", *by_filter, answer="n\n")
    assert "1 dead letters will be sent again. Go on?" in refused.output
    assert "open" in leads("list").output
    assert "no dead letters" in leads("redrive", "--actor", "grace", "--tenant", "globex").output
    assert "1 dead letters: wait to be sent" in leads("redrive", *by_filter, answer="y\n").output


def test_letters_are_discarded_by_a_filter(leads: Leads, engine: sa.Engine) -> None:
    done = leads("discard", "--all", "--yes", "--actor", "grace", "--reason", "gone")
    assert "1 dead letters: discarded, with 1 leads" in done.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("redrive",), "--all means every open one"),
        (("discard", "--reason", "gone"), "--all means every open one"),
        (("redrive", str(UUID(int=1)), "--tenant", "acme"), "not by both"),
        (("redrive", str(UUID(int=1)), "--rate", "0"), "--rate"),
        (("redrive", str(UUID(int=1)), "--rate", "0.001"), "--rate"),
        (("redrive", str(UUID(int=1)), "--rate", "nan"), "no number"),
        (("redrive", str(UUID(int=1)), "--rate", "inf"), "--rate"),
        (("redrive", str(UUID(int=1)), "--rate", "5", "--dry-run"), "choose one of"),
        (("fix", str(UUID(int=1)), "--set", "city"), "number 1 is not FIELD=VALUE"),
        (("fix", str(UUID(int=1))), "either --set FIELD=VALUE or --mapping PROPERTY=FIELD"),
        (("fix", str(UUID(int=1)), "--set", "city=x", "--mapping", "a=city"), "either --set"),
        (("fix", str(UUID(int=1)), "--mapping", "city"), "it is not PROPERTY=FIELD"),
    ],
)
def test_what_is_not_said_clearly_is_refused(arguments: tuple[str, ...], words: str, leads: Leads) -> None:
    refused = leads(*arguments, "--actor", "grace")
    assert refused.exit_code == 2
    assert words in refused.output


def test_a_dry_run_tells_names_and_values_only_on_demand(leads: Leads, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("update golden_contacts set city = 'Graz'"))
        connection.execute(sa.text("update dead_letters set destination = 'hubspot'"))
    dry = ("redrive", "--all", "--actor", "grace", "--dry-run")
    told, revealed = leads(*dry), leads(*dry, "--reveal")
    assert "would send version" in told.output
    assert "changed since: email" in told.output
    assert "Graz" not in told.output
    assert "Graz" in revealed.output
    assert "open" in leads("list").output


def test_letters_are_sent_to_a_sandbox_and_stay_as_they_are(leads: Leads, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("update golden_contacts set email = 'no address'"))
        connection.execute(sa.text("update dead_letters set destination = 'hubspot'"))
    tried = ("redrive", "--all", "--yes", "--actor", "grace", "--to", "sandbox")
    told, revealed = leads(*tried), leads(*tried, "--reveal")
    assert "the sandbox says: invalid" in told.output
    assert "no address" not in told.output
    assert "no address" in revealed.output
    assert "open" in leads("list").output
    assert "to_sandbox" in leads("show", str(_letter(engine))).output


def test_a_fix_names_the_leads_that_are_judged_again(leads: Leads, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("""update raw_leads set payload = '{"email": "ada@example.com"}'"""))
    done = leads("fix", str(_letter(engine)), "--set", "city=Graz", "--actor", "grace")
    assert "waits to be judged with city corrected" in done.output
    assert "Graz" not in done.output
    assert "fields city" in leads("show", str(_letter(engine))).output


def test_a_mapping_is_changed_for_the_destination_and_the_letter_s_contact_sent_again(
    leads: Leads, engine: sa.Engine
) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("update dead_letters set destination = 'hubspot'"))
    letter = str(_letter(engine))
    by = ("--actor", "grace", "--reason", "TICKET-7")
    done = leads("fix", letter, "--mapping", "birthday={from: date_of_birth, as: text}", *by)
    assert "waits to be sent, birthday as you say" in done.output
    assert "mapping birthday" in leads("show", letter).output
    assert "was resolved already" in leads("fix", letter, "--mapping", "birthday=", *by).output


@pytest.mark.parametrize("command", ["show", "redrive"])
def test_a_letter_that_does_not_exist_is_refused(command: str, leads: Leads) -> None:
    extra = ["--actor", "grace"] if command == "redrive" else []
    assert isinstance(leads(command, str(uuid4()), *extra).exception, NotFound)
