"""`leads destinations`, as an operator uses it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from leads_pipeline.cli import cli
from leads_pipeline.config import DATABASE_URL_VARIABLE
from leads_pipeline.crm.sandbox.hubspot.options import HubSpotOptions
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline.errors import NotFound
from leads_pipeline.storage.destination_schemas import doubt_schema
from leads_pipeline.storage.mapping_overrides import MappingOverride, write_override
from leads_pipeline_tests.conftest import LEADS_YAML, NOW
from leads_pipeline_tests.crm.delivering import add_contacts, row_of
from leads_pipeline_tests.defs.rows import Flow

Leads = Callable[..., Result]


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    with running_sandbox(HubSpotOptions(token="test-token").without_limits()) as server:
        yield server


@pytest.fixture
def leads(
    engine: sa.Engine, database_url: str, sandbox: SandboxServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Leads:
    """Run ``leads destinations`` with further settings of the destination."""
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)

    def run(*arguments: str, more: str = "") -> Result:
        text = LEADS_YAML.replace("http://127.0.0.1:9", sandbox.base_url) + more
        (tmp_path / "leads.yaml").write_text(text)
        return CliRunner().invoke(cli, ("--config", str(tmp_path / "leads.yaml"), "destinations", *arguments))

    return run


def test_the_destinations_are_listed_with_whose_they_are(leads: Leads) -> None:
    assert leads("list").output == "hubspot  hubspot, account sandbox, of acme, globex\n"


def test_a_destination_is_filled_at_once_with_what_it_lacks(leads: Leads, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        flow = Flow(connection, NOW)
        flow.delivered()
        flow.golden(state="cancelled")
        connection.execute(sa.text("delete from outbox where state = 'cancelled'"))
        connection.execute(sa.text("insert into destination_doors (tenant, destination) values ('acme', 'hubspot')"))
    assert "of acme (is being filled), globex" in leads("list").output
    assert leads("backfill", "hubspot").output == "1 contacts wait to be sent\n"
    assert leads("backfill", "hubspot").output == "0 contacts wait to be sent\n"
    assert "is being filled" not in leads("list").output


def test_what_waits_for_a_destination_that_is_no_more_is_named_and_can_be_cancelled(
    leads: Leads, engine: sa.Engine
) -> None:
    kept, gone, erased = *add_contacts(engine, 1), *add_contacts(engine, 2, destination="retired")
    with engine.begin() as connection:
        connection.execute(
            sa.text("update outbox set operation = 'erase' where outbox_id = :id"), {"id": erased.outbox_id}
        )
    line = "retired  not a destination of acme in leads.yaml: 1 contacts and 1 removals wait until it is one again"
    assert line in leads("list").output
    cancel = ("cancel", "retired", "--tenant", "acme", "--actor", "grace")
    assert leads(*cancel).output.endswith("1 contacts are wanted there no more\n")
    assert [row_of(engine, item)["state"] for item in (kept, gone, erased)] == ["waiting", "cancelled", "waiting"]
    assert "0 contacts and 1 removals" in leads("list").output
    assert isinstance(leads("cancel", "hubspot", *cancel[2:]).exception, NotFound)


def test_a_mapping_that_fits_is_said_to(leads: Leads) -> None:
    checked = leads("check")
    assert checked.exit_code == 0
    assert "the mapping fits" in checked.output


def test_what_must_be_mended_is_named_with_what_to_do(leads: Leads, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        Flow(connection, NOW).delivered(withheld={"firstnme": "unknown_property"})
    checked = leads("check", "hubspot", more="    mapping: {first_name: firstnme}\n    key_property: company\n")
    assert checked.exit_code == 1
    said = " ".join(checked.output.split())
    assert "firstnme unknown property: make it at the destination, or map first_name to one that it has" in said
    assert "did you mean firstname?" in said
    assert "company key not unique" in said
    assert "nothing can be delivered until then" in said
    assert "1 contacts are there without firstnme" in said


def test_what_a_person_changed_is_told_until_it_is_withdrawn(leads: Leads, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        write_override(connection, "hubspot", MappingOverride("company", {}, "grace", "TICKET-7", NOW))
    assert "company left out, by grace, 2026-01-15 12:00 UTC: TICKET-7" in " ".join(leads("check").output.split())
    withdraw = ("withdraw-mapping", "hubspot", "company", "--actor", "ada")
    assert "is mapped as leads.yaml says" in leads(*withdraw).output
    assert "nobody changed it" in leads(*withdraw).output
    assert "grace" not in leads("check").output


def test_a_destination_that_does_not_tell_says_what_to_do(leads: Leads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEADS_HUBSPOT_TOKEN", "revoked")
    checked = leads("check")
    assert checked.exit_code == 1
    assert "the token is none of the account's, or has ended: set a valid one" in " ".join(checked.output.split())


def test_fields_that_were_told_before_a_refusal_have_no_made_up_time(
    leads: Leads, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert leads("check").exit_code == 0
    with engine.begin() as connection:
        doubt_schema(connection, "hubspot")
    monkeypatch.setenv("LEADS_HUBSPOT_TOKEN", "revoked")
    said = leads("check").output
    assert "told its fields before it refused us, and not since" in said
    assert "1970" not in said


def test_a_sandbox_of_leads_dev_is_asked_with_its_own_key(
    leads: Leads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LEADS_HUBSPOT_TOKEN")
    (tmp_path / ".leads").mkdir()
    (tmp_path / ".leads" / "sandbox-token").write_text("test-token")
    assert leads("check").exit_code == 0


def test_a_destination_that_is_not_there_is_refused(leads: Leads) -> None:
    refused = leads("check", "salesforce")
    assert isinstance(refused.exception, NotFound)
    assert "it has: hubspot" in str(refused.exception)
