"""The hot code location on a database of the test's own and a real sandbox CRM."""

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa

from leads_pipeline.clock import Clock, FrozenClock
from leads_pipeline.config import CONFIG_VARIABLE, DATABASE_URL_VARIABLE, Settings, parse_settings, project_file
from leads_pipeline.crm.sandbox.hubspot.options import HubSpotOptions
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline.definitions import build_defs
from leads_pipeline.flows import FlowContext
from leads_pipeline_tests.conftest import LEADS_YAML
from leads_pipeline_tests.defs.rows import Flow

TOKEN = "test-token"  # the value that the suite's environment holds


@pytest.fixture(scope="session")
def expectations_imported() -> None:
    """Great Expectations imports modules that Python has deprecated; the suite makes such warnings errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("great_expectations.expectations.core")


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    with running_sandbox(HubSpotOptions(token=TOKEN).without_limits()) as server:
        yield server


@pytest.fixture
def crm_settings(sandbox: SandboxServer, tmp_state: Path) -> Settings:
    """The suite's settings with the sandbox as their CRM."""
    return parse_settings(LEADS_YAML.replace("http://127.0.0.1:9", sandbox.base_url), path=tmp_state / "leads.yaml")


@pytest.fixture
def flow_context(engine: sa.Engine, crm_settings: Settings, clock: FrozenClock) -> FlowContext:
    return FlowContext(engine=engine, settings=crm_settings, clock=clock)


@pytest.fixture
def definitions(flow_context: FlowContext) -> dg.Definitions:
    return build_defs(flow_context)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def stored_instance(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """An instance as our dagster.yaml makes it, its storage in the test's database."""
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_bytes(project_file("dagster.yaml").read_bytes())
    monkeypatch.setenv(CONFIG_VARIABLE, str(project_file("leads.yaml")))
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


@pytest.fixture
def seeding(engine: sa.Engine, clock: Clock):
    """A way to put rows into the database: ``with seeding() as flow: flow.buffered()``."""

    @contextmanager
    def seed(**flow: str) -> Iterator[Flow]:
        with engine.begin() as connection:
            yield Flow(connection, clock.now(), **flow)

    return seed


@pytest.fixture
def run(definitions: dg.Definitions, instance: dg.DagsterInstance):
    """Run a job in this process and return its result, failed or not."""

    def execute(job: str, **more) -> dg.ExecuteInProcessResult:
        job_definition = definitions.resolve_job_def(job)
        return job_definition.execute_in_process(**{"instance": instance, "raise_on_error": False, **more})

    return execute


@pytest.fixture
def count(engine: sa.Engine):
    """Count a table's rows."""

    def rows(table: str) -> int:
        with engine.connect() as connection:
            return connection.execute(sa.text(f"select count(*) from {table}")).scalar_one()

    return rows


def metadata_of(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, object]:
    """The metadata of an asset's materialisation, as plain values."""
    [event] = [e for e in result.get_asset_materialization_events() if e.asset_key == dg.AssetKey(asset)]
    return {name: item.value for name, item in event.materialization.metadata.items()}


def verdicts(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    """What each check of a run said, by ``asset.check``."""
    return {
        f"{check.asset_key.to_user_string()}.{check.check_name}": check.passed
        for check in result.get_asset_check_evaluations()
    }
