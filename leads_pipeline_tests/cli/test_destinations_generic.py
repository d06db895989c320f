"""What `leads destinations` says of a webhook, a table and a folder."""

import json
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from leads_pipeline.cli import cli
from leads_pipeline.config import DATABASE_URL_VARIABLE, parse_settings
from leads_pipeline.crm.rehearsal import try_in_sandbox
from leads_pipeline.errors import NotFound
from leads_pipeline_tests.crm.played_receiver import SECRET, receiving

Leads = Callable[..., Result]

_YAML = """
tenants:
  acme: {{sources: {{website: {{}}}}, destinations: [out]}}
destinations:
  out: {{account: shared, {settings}}}
"""
WEBHOOK = "vendor: webhook, url: 'https://hooks.example.com/x', secret: {env: HOOK_SECRET}"
SQL = "vendor: sql, url: {env: TABLE_URL}, table: contacts, mapping: {email: email, phone: phon}"


@pytest.fixture
def leads(engine: sa.Engine, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Leads:
    """Run ``leads destinations`` with one destination of these settings."""
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)

    def run(settings: str, *arguments: str) -> Result:
        (tmp_path / "leads.yaml").write_text(_YAML.format(settings=settings))
        return CliRunner().invoke(cli, ("--config", str(tmp_path / "leads.yaml"), "destinations", *arguments))

    return run


def said(result: Result) -> str:
    """What was printed, as if lines had no end."""
    return " ".join(result.output.split())


def test_a_webhook_is_tried_with_a_request_about_nobody(leads: Leads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    with receiving(batches=False) as receiver:
        settings = WEBHOOK.replace("https://hooks.example.com/x", receiver.url)
        checked = leads(settings, "check")
        assert checked.output == "out: takes any property, so there is nothing to hold the mapping against\n"
        assert checked.exit_code == 0
        assert leads(settings, "list").output == "out  webhook, account shared, of acme\n"
        receiver.secret = SECRET.replace("MDEy", "MDAw")
        checked = leads(settings, "check")
    assert checked.exit_code == 1
    assert "problem the receiver did not take a test (HTTP_401): the receiver refuses our signature" in said(checked)
    assert [json.loads(sent.content)["type"] for sent in receiver.listener.sent] == ["test", "test"]
    assert (receiver.unsigned, receiver.contacts) == (1, {})


@pytest.mark.parametrize("secret", [None, "s3cret"])
def test_a_webhook_without_a_secret_says_how_to_make_one(
    leads: Leads, monkeypatch: pytest.MonkeyPatch, secret: str | None
) -> None:
    if secret is not None:
        monkeypatch.setenv("HOOK_SECRET", secret)
    checked = leads(WEBHOOK, "check")
    assert checked.exit_code == 1
    what = "is not set" if secret is None else "holds no secret of Standard Webhooks"
    assert f"problem the environment variable HOOK_SECRET {what}" in said(checked)
    assert "s3cret" not in checked.output


def test_a_folder_is_tried(leads: Leads, tmp_path: Path) -> None:
    settings = f"vendor: file, directory: {tmp_path / 'out'}"
    checked = leads(settings, "check")
    assert checked.exit_code == 1
    assert "problem the folder did not take a file (ENOENT): the folder is not there: make it" in said(checked)
    (tmp_path / "out").mkdir()
    assert leads(settings, "check").exit_code == 0


def test_a_table_is_held_against_the_mapping(
    leads: Leads, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TABLE_URL", empty_database_url)
    checked = leads(SQL, "check")
    assert checked.exit_code == 1
    assert "problem the database did not tell of any column contact_id, version, archived_at" in said(checked)
    with psycopg.connect(empty_database_url) as connection:
        connection.execute(
            "create table contacts (contact_id uuid primary key, version bigint, archived_at timestamptz, email text, "
            "phone text)"
        )
    checked = leads(SQL, "check")
    assert "phon unknown property: make it at the destination, or map phone to one that it has" in said(checked)
    assert "did you mean phone?" in said(checked)
    assert empty_database_url not in checked.output
    assert leads(SQL.replace("phon}", "phone}"), "check").output.endswith("the mapping fits\n")


def test_nobody_plays_a_webhook() -> None:
    settings = parse_settings(_YAML.format(settings=WEBHOOK), path=Path("leads.yaml"))
    with pytest.raises(NotFound, match="no sandbox of a webhook"):
        try_in_sandbox(settings.destinations["out"], [])
