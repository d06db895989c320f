"""A database with leads at every place of the flow, and the marts that a real Dagster run built from it."""

import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import psycopg
import pytest
import sqlalchemy as sa
from psycopg.rows import dict_row

from leads_pipeline import analytics
from leads_pipeline.config import DATABASE_URL_VARIABLE, LeadCost, inherited_environment, parse_settings
from leads_pipeline.storage.database import engine_for
from leads_pipeline.storage.embedded import EmbeddedServer
from leads_pipeline.storage.migrate import upgrade
from leads_pipeline_tests.conftest import LEADS_YAML, NOW
from leads_pipeline_tests.dbt.filled import fill
from leads_pipeline_tests.defs.rows import Flow

JANE = {
    "email": "jane.doe@family-doe.example",
    "email_key": "jane.doe@family-doe.example",
    "phone": "+14155550123",
    "first_name": "Janette",
    "last_name": "Doewright",
    "company": "Doewright Shipping",
    "job_title": "Harbourmistress",
    "address": "1 Quayside Lane",
    "postcode": "94107-7331",
}


@dataclass
class Built:
    """What a run of the job ``marts`` left behind."""

    engine: sa.Engine
    manifest: Path
    result: dg.ExecuteInProcessResult
    state_path: Path


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return analytics.prepare(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def marts_engine(server: EmbeddedServer) -> Iterator[sa.Engine]:
    """A database as `leads db upgrade` makes it, roles included."""
    name = f"test_marts_{secrets.token_hex(4)}"
    engine = engine_for(server.drop_and_create_database(name))
    upgrade(engine, now=NOW)
    yield engine
    engine.dispose()
    with psycopg.connect(server.url().rpartition("/")[0] + "/postgres", autocommit=True) as connection:
        connection.execute(f"drop database {name} with (force)")


@pytest.fixture(scope="module")
def built(marts_engine: sa.Engine, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    with marts_engine.begin() as connection:
        seed(connection)
    settings = parse_settings(LEADS_YAML, path=tmp_path_factory.mktemp("marts") / "leads.yaml")
    definitions = analytics.build_defs(manifest, resources={"settings": settings})
    url = marts_engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        patch.setenv(DATABASE_URL_VARIABLE, url)
        result = definitions.resolve_job_def("marts").execute_in_process(instance=instance)
        yield Built(marts_engine, manifest, result, settings.state_path)


@dataclass(frozen=True)
class Marts:
    """A database of known figures and a dbt that builds its marts."""

    engine: sa.Engine
    state_path: Path

    def dbt(self, *arguments: str, project: Path = analytics.PROJECT) -> None:
        """Run dbt as the code location does."""
        environment = analytics.dbt_environment(self.url, state_path=self.state_path, costs=COSTS)
        command = [*arguments, "--project-dir", str(project), "--profiles-dir", str(project)]
        done = subprocess.run(
            [analytics.dbt_command(), "--quiet", *command],
            env=inherited_environment() | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def with_marts(self, directory: Path, statements: Mapping[str, str]) -> None:
        """Build these marts more, in a copy of the project."""
        project = directory / "dbt_project"
        shutil.copytree(analytics.PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
        for name, statement in statements.items():
            (project / "models" / "marts" / f"{name}.sql").write_text(statement)
        self.dbt("run", "--select", *statements, project=project)

    @property
    def url(self) -> str:
        return self.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)

    def rows(self, statement: str, *, role: str | None = None) -> list[dict[str, Any]]:
        with psycopg.connect(self.url, row_factory=dict_row) as connection:
            if role:
                connection.execute(f"set role {role}")
            return connection.execute(statement).fetchall()

    def row(self, statement: str) -> dict[str, Any]:
        [row] = self.rows(statement)
        return row


# Of the webinar nothing is told.
COSTS = (LeadCost(tenant="acme", source="website", cost=Decimal(20), currency="USD"),)


@pytest.fixture(scope="module")
def marts(marts_engine: sa.Engine, manifest: Path) -> Marts:
    """Marts over the rows of ``filled``, built once for a module."""
    with marts_engine.begin() as connection:
        fill(connection)
    marts = Marts(marts_engine, manifest.parent.parent.parent)
    marts.dbt("build")
    return marts


def seed(connection: sa.Connection) -> None:
    """A lead at every place of the flow, a contact that must not be recognised, and requests to the CRM."""
    flow = Flow(connection, NOW)
    flow.one_of_each()
    flow.golden()  # the fifth contact of one domain
    for state in ("delivered", "waiting"):  # merged away: the CRM is to archive them
        flow.sync(flow.contact(uuid4()), state=state, operation="archive", delivered_version=1)
    lead = flow.deduped(golden_version=1)
    contact = flow.contact_of(lead)
    consent = {"marketing": {"email": {"granted": True}}}
    flow.insert("golden_contacts", contact_id=contact, version=1, country="US", consent=consent, **JANE)
    flow.sync(contact, state="delivered", delivered_version=1, delivered_at=NOW)
    values = {"destination": "hubspot", "operation": "upsert", "records": 2, "delivered": 2}
    flow.insert("crm_sync_batches", http_status=200, **values)
    recent = {"sent_at": sa.func.now(), "answered_at": sa.func.now() + sa.text("interval '2 seconds'")}
    delivered = {"destination": "hubspot", "contact_id": contact, "verdict": "delivered", "sent_at": sa.func.now()}
    own, shared = uuid4(), uuid4()
    flow.insert("crm_sync_batches", batch_id=own, http_status=200, **values, **recent)
    flow.insert("crm_sync_batches", batch_id=shared, http_status=200, **values, **{**recent, "tenant": None})
    for batch_id, outbox_id, tenant in [(own, 1, "acme"), (own, 2, "acme"), (shared, 3, "acme"), (shared, 4, "globex")]:
        flow.insert("sync_attempts", batch_id=batch_id, outbox_id=outbox_id, **{**delivered, "tenant": tenant})
    refused = {"destination": "hubspot", "operation": "upsert", "records": 1, "throttled": True}
    flow.insert("crm_sync_batches", http_status=403, **refused, **recent)
