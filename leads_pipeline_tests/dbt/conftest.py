"""A database with leads at every place of the flow, and the marts that a real Dagster run built from it."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import dagster as dg
import psycopg
import pytest
import sqlalchemy as sa

from leads_pipeline import analytics
from leads_pipeline.config import DATABASE_URL_VARIABLE, parse_settings
from leads_pipeline.storage.database import engine_for
from leads_pipeline.storage.embedded import EmbeddedServer
from leads_pipeline.storage.migrate import upgrade
from leads_pipeline_tests.conftest import LEADS_YAML, NOW
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


def seed(connection: sa.Connection) -> None:
    """A lead at every place of the flow, a contact that must not be recognised, and requests to the CRM."""
    flow = Flow(connection, NOW)
    flow.one_of_each()
    flow.golden()  # the fifth contact of one domain
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
