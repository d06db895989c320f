"""``leads db``, as a user runs it: real processes, real exit codes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from leads_pipeline.config import DATABASE_URL_VARIABLE
from leads_pipeline.storage.embedded import EmbeddedServer, ServerState
from leads_pipeline.storage.migrate import expected_version
from leads_pipeline_tests.conftest import LEADS_YAML

Leads = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def leads(own_state: Path) -> Leads:
    """Run ``leads …`` in a directory of its own, whose server is removed at the end of the test."""
    (own_state / "leads.yaml").write_text(f"{LEADS_YAML}\nstate_dir: .\n")

    def run(*arguments: str, database_url: str | None = None) -> subprocess.CompletedProcess[str]:
        environment = dict(os.environ)
        if database_url is not None:
            environment[DATABASE_URL_VARIABLE] = database_url
        return subprocess.run(
            [sys.executable, "-m", "leads_pipeline", *arguments],
            cwd=own_state,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def test_a_server_is_started_shown_used_stopped_and_removed(leads: Leads, own_state: Path) -> None:
    server = EmbeddedServer(own_state)
    absent = leads("db", "status")
    assert (absent.returncode, "absent" in absent.stdout) == (1, True)

    started = leads("db", "start")
    assert started.returncode == 0, started.stderr
    assert "running" in started.stdout
    status = leads("db", "status")
    assert status.returncode == 0, status.stderr
    assert f"schema     {expected_version()}" in status.stdout
    assert str(server.directory) in status.stdout
    url = leads("db", "url").stdout.strip()
    with psycopg.connect(url) as connection:
        row = connection.execute("select count(*) from leads.raw_leads").fetchone()
    assert row == (0,)
    assert leads("db", "url", "--database", "postgres").stdout.strip() == url.removesuffix("leads") + "postgres"

    assert leads("db", "stop").stdout == "stopped\n"
    assert server.status().state is ServerState.STOPPED
    again = leads("db", "stop")
    assert (again.returncode, again.stdout) == (0, "it does not run\n")
    no_url = leads("db", "url")
    assert (no_url.returncode, no_url.stdout, "leads db start" in no_url.stderr) == (1, "", True)

    assert leads("db", "remove").returncode != 0, "it asks, and nobody answers"
    assert server.directory.exists()
    assert leads("db", "remove", "--yes").returncode == 0
    assert not server.directory.exists()
    nothing = leads("db", "remove")
    assert (nothing.returncode, nothing.stdout) == (0, "there is none\n")


def test_upgrade_starts_the_embedded_server_and_says_what_it_did(leads: Leads) -> None:
    first, second = leads("db", "upgrade"), leads("db", "upgrade")
    assert first.stdout.splitlines() == [f"schema {expected_version()} (was none)", "24 partitions made"], first.stderr
    assert second.stdout.splitlines() == [f"schema {expected_version()}"], second.stderr


def test_upgrade_works_on_a_configured_database(leads: Leads, empty_database_url: str, own_state: Path) -> None:
    refused = leads("db", "status", database_url=empty_database_url)
    assert refused.returncode == 1
    assert "run `leads db upgrade`" in refused.stdout
    upgraded = leads("db", "upgrade", database_url=empty_database_url)
    assert upgraded.returncode == 0, upgraded.stderr
    assert leads("db", "status", database_url=empty_database_url).returncode == 0
    assert leads("db", "url", database_url=empty_database_url).stdout.strip() == empty_database_url
    assert EmbeddedServer(own_state).status().state is ServerState.ABSENT


@pytest.mark.parametrize("command", [("start",), ("stop",), ("remove", "--yes")])
def test_commands_about_the_embedded_server_refuse_a_configured_database(
    leads: Leads, command: tuple[str, ...], database_url: str
) -> None:
    refused = leads("db", *command, database_url=database_url)
    assert refused.returncode == 2
    assert DATABASE_URL_VARIABLE in refused.stderr


@pytest.mark.parametrize("command", ["status", "upgrade"])
def test_a_configured_database_that_does_not_answer_is_an_error_without_a_trace(leads: Leads, command: str) -> None:
    failed = leads("db", command, database_url="postgresql://leads:s3cret@127.0.0.1:9/leads")
    assert failed.returncode == 1
    assert "cannot connect to postgresql://leads:***@127.0.0.1:9/leads" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert "s3cret" not in failed.stdout + failed.stderr


@pytest.mark.parametrize("command", ["status", "upgrade"])
@pytest.mark.parametrize(
    "url", ["mysql://leads:s3cret@127.0.0.1/leads", "s3cret", "postgresql://leads@127.0.0.1:s3cret/leads"]
)
def test_a_url_that_is_not_one_is_a_mistake_in_the_configuration(leads: Leads, command: str, url: str) -> None:
    failed = leads("db", command, database_url=url)
    assert failed.returncode == 2, failed.stderr
    assert "postgresql://" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert "s3cret" not in failed.stdout + failed.stderr
