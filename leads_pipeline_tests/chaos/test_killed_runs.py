"""A Dagster run that is killed in any stage loses nothing and doubles nothing: the next run goes on."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from leads_pipeline.buffer.port import NewLead
from leads_pipeline.buffer.postgresql import PostgresBuffer
from leads_pipeline.config import CONFIG_VARIABLE, DATABASE_URL_VARIABLE, Settings, parse_settings, project_file
from leads_pipeline.crm.sandbox.hubspot.options import HubSpotOptions
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.stage import Lane, LeadState, Stage
from leads_pipeline.storage.conservation import conservation
from leads_pipeline.synthetic import generate_leads
from leads_pipeline_tests.conftest import LEADS_YAML

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

LEADS = 150
SCRIPT = Path(__file__).parent / "run_and_die.py"


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    with running_sandbox(HubSpotOptions()) as running:
        yield running


@pytest.fixture
def chaos_settings(sandbox: SandboxServer, tmp_state: Path) -> Settings:
    text = LEADS_YAML.replace("http://127.0.0.1:9", sandbox.base_url)
    path = tmp_state / "leads.yaml"
    path.write_text(text, encoding="utf-8")
    return parse_settings(text, path=path)


@pytest.fixture
def environment(chaos_settings: Settings, database_url: str, tmp_path: Path) -> dict[str, str]:
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_bytes(project_file("dagster.yaml").read_bytes())
    return {
        **os.environ,
        CONFIG_VARIABLE: str(chaos_settings.path),
        DATABASE_URL_VARIABLE: database_url,
        "DAGSTER_HOME": str(home),
        "DAGSTER_DISABLE_TELEMETRY": "yes",
    }


def capture(engine: sa.Engine, count: int) -> None:
    now = datetime.now(UTC)
    leads = [
        NewLead(
            lead_id=uuid7(now),
            tenant="acme",
            source="website",
            lane=Lane.REAL_TIME,
            received_at=now,
            key_hex=f"{number:064x}",
            body_hex=f"{number:064x}",
            payload=dict(lead.payload),
            consent=lead.consent,
            context={},
        )
        for number, lead in enumerate(generate_leads(count, seed=11))
    ]
    PostgresBuffer(engine).append(leads, now=now)


def leads_cli(*arguments: str, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "leads_pipeline", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.parametrize("stage", list(Stage))
def test_a_run_that_is_killed_between_claim_and_settling_loses_and_doubles_nothing(
    stage: Stage,
    engine: sa.Engine,
    chaos_settings: Settings,
    environment: dict[str, str],
    sandbox: SandboxServer,
):
    capture(engine, LEADS)

    killed = subprocess.run(
        [sys.executable, str(SCRIPT), stage], env=environment, capture_output=True, text=True, timeout=240, check=False
    )

    assert killed.returncode == -signal.SIGKILL, killed.stdout[-2000:] + killed.stderr[-2000:]
    destinations = {name: tenant.destinations for name, tenant in chaos_settings.tenants.items()}
    with engine.begin() as connection:
        (account,) = conservation(connection, destinations=destinations)
        assert account.conserved, "while it waits for the next run"
        assert account.states[LeadState.PENDING] > 0

    leads_cli("run", environment=environment)

    with engine.connect() as connection:
        (account,) = conservation(connection, destinations=destinations)
        contacts = connection.execute(sa.text("select count(*) from golden_contacts")).scalar_one()
        held_back = connection.execute(sa.text("select count(*) from outbox where state = 'suppressed'")).scalar_one()
        attempts = connection.execute(sa.text("select count(*) from sync_attempts where verdict is null")).scalar_one()
    seen = sandbox.report()
    assert account.conserved
    assert account.captured == LEADS
    assert account.states[LeadState.PENDING] == 0
    assert account.states[LeadState.DELIVERED] == contacts - held_back > 0
    assert account.states[LeadState.REJECTED] > 0
    assert seen["contacts"] == contacts - held_back
    assert seen["duplicates"] == 0
    assert (attempts > 0) == (stage is Stage.CRM_SYNC_BATCHES), "only the killed delivery is without an answer"


def test_killing_a_run_again_and_again_ends_with_everything_delivered_once(
    engine: sa.Engine, chaos_settings: Settings, environment: dict[str, str], sandbox: SandboxServer
):
    for stage in Stage:
        capture_more = LEADS // 5
        capture_at = datetime.now(UTC)
        _capture_distinct(engine, capture_more, salt=stage, now=capture_at)
        killed = subprocess.run([sys.executable, str(SCRIPT), stage], env=environment, check=False, timeout=240)
        assert killed.returncode == -signal.SIGKILL
        with engine.begin() as connection:
            connection.execute(sa.text("update outbox set claimed_until = now() where state = 'in_flight'"))

    leads_cli("run", environment=environment)

    destinations = {name: tenant.destinations for name, tenant in chaos_settings.tenants.items()}
    with engine.connect() as connection:
        (account,) = conservation(connection, destinations=destinations)
        contacts = connection.execute(sa.text("select count(*) from golden_contacts")).scalar_one()
    assert account.conserved
    assert account.states[LeadState.PENDING] == 0
    assert sandbox.report()["contacts"] == contacts
    assert sandbox.report()["duplicates"] == 0


def _capture_distinct(engine: sa.Engine, count: int, *, salt: str, now: datetime) -> None:
    leads = [
        NewLead(
            lead_id=uuid7(now),
            tenant="acme",
            source="website",
            lane=Lane.REAL_TIME,
            received_at=now,
            key_hex=f"{abs(hash((salt, number))):064x}",
            body_hex=f"{number:064x}",
            payload={"email": f"person{number}@{salt.replace('_', '-')}.example", "last_name": f"Person {salt}"},
            consent=[],
            context={},
        )
        for number in range(count)
    ]
    PostgresBuffer(engine).append(leads, now=now)
