"""`leads keys`: keys that post leads of a source, that look contacts up, that tell outcomes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from leads_pipeline.cli import cli
from leads_pipeline.config import DATABASE_URL_VARIABLE
from leads_pipeline.storage import schema
from leads_pipeline_tests.conftest import LEADS_YAML
from leads_pipeline_tests.steps.rows import rows_of

Keys = Callable[..., Result]


@pytest.fixture
def keys(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keys:
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "leads.yaml").write_text(LEADS_YAML)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["--config", str(tmp_path / "leads.yaml"), "keys", *arguments])

    return run


def test_a_key_posts_for_a_source_or_looks_up_contacts_of_a_tenant(keys: Keys, engine: sa.Engine) -> None:
    posting = keys("create", "--tenant", "acme", "--source", "website")
    asking = keys("create", "--tenant", "acme", "--scope", "lookup")
    assert (posting.exit_code, asking.exit_code) == (0, 0)
    assert "looks up contacts of acme" in asking.output
    made = {(row["scope"], row["source"]) for row in rows_of(engine, schema.api_keys)}
    assert made == {("post", "website"), ("lookup", None)}
    listed = keys("list").output
    assert "lookup" in listed
    assert "website" in listed


def test_a_key_tells_outcomes_of_a_tenant(keys: Keys, engine: sa.Engine) -> None:
    made = keys("create", "--tenant", "acme", "--scope", "outcomes")
    assert "tells outcomes of acme" in made.output
    [row] = rows_of(engine, schema.api_keys)
    assert (row["scope"], row["source"]) == ("outcomes", None)
    assert "outcomes of acme" in keys("revoke", row["key_id"]).output


def test_quietly_the_key_is_printed_alone_and_revoking_says_what_it_was_for(keys: Keys) -> None:
    text = keys("create", "--tenant", "acme", "--scope", "lookup", "--quiet").output.strip()
    assert text.startswith("lp_")
    assert "look-ups of acme" in keys("revoke", text).output
    assert "revoked" in keys("list").output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--tenant", "acme"], "a key of scope post needs its --source"),
        (["--tenant", "acme", "--scope", "lookup", "--source", "website"], "one of scope lookup is for the whole"),
        (["--tenant", "acme", "--scope", "outcomes", "--source", "website"], "one of scope outcomes is for the whole"),
        (["--scope", "lookup"], "name one with --tenant: acme, globex"),
        (["--scope", "lookup", "--tenant", "nobody"], "has no tenant 'nobody'; it has: acme, globex"),
        (["--tenant", "acme", "--source", "nowhere"], "has no source 'nowhere'"),
    ],
)
def test_a_key_for_nothing_is_refused_with_what_there_is(
    keys: Keys, engine: sa.Engine, arguments: list[str], said: str
) -> None:
    refused = keys("create", *arguments)
    assert refused.exit_code == 2
    assert said in refused.output
    assert rows_of(engine, schema.api_keys) == []
