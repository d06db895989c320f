"""`leads matching reindex`, and who tells that it is to be done."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from leads_pipeline.cli import cli
from leads_pipeline.config import DATABASE_URL_VARIABLE, Settings
from leads_pipeline_tests.conftest import LEADS_YAML
from leads_pipeline_tests.steps.identity_play import Play

ANNA = {"full_name": "Anna Kowalczyk", "email": "anna.kowalczyk@northwind.com", "company": "Northwind GmbH"}
Leads = Callable[..., Result]


@pytest.fixture
def leads(
    engine: sa.Engine, settings: Settings, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Leads:
    """One lead, found by the keys of an older release."""
    Play(engine, settings).arrive(**ANNA)
    with engine.begin() as connection:
        connection.exec_driver_sql("update identity_sizes set index_version = 0")
        connection.exec_driver_sql("delete from match_keys")
    (tmp_path / "leads.yaml").write_text(LEADS_YAML)
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["--config", str(tmp_path / "leads.yaml"), *arguments])

    return run


def test_status_and_rebuild_tell_of_keys_of_an_older_release_until_they_are_made_anew(
    leads: Leads, engine: sa.Engine
) -> None:
    assert "leads matching reindex" in " ".join(leads("status").output.split())
    assert "leads matching reindex" in leads("matching", "rebuild", "--tenant", "acme").output

    done = leads("matching", "reindex")

    assert done.exit_code == 0, done.output
    assert "acme: 1 leads gone through, 1 records" in done.output
    with engine.connect() as connection:
        assert connection.exec_driver_sql("select count(*) from match_keys").scalar_one() > 2
    assert json.loads(leads("status", "--json").output)["stale_indexes"] == []
    assert "leads matching reindex" not in leads("status").output
    assert "leads matching reindex" not in leads("matching", "rebuild", "--tenant", "acme").output
    assert "nothing to do" in leads("matching", "reindex").output


def test_a_tenant_that_is_named_is_made_anew_all_the_same(leads: Leads) -> None:
    leads("matching", "reindex")
    again = leads("matching", "reindex", "--tenant", "acme")
    assert "1 leads gone through" in again.output
    assert "0 values had been counted otherwise" in again.output


def test_a_tenant_that_is_not_there_is_refused_by_name(leads: Leads) -> None:
    refused = leads("matching", "reindex", "--tenant", "nobody")
    assert refused.exit_code == 2
    assert "nobody" in refused.output
