"""The product as `leads dev` runs it, for benchmarks, on ports of its own, and beside it a location that does nothing.

Everything listens on 127.0.0.1 and ends with the block.
"""

import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import yaml

from leads_pipeline.clock import SystemClock
from leads_pipeline.config import HUBSPOT_MAPPING, Settings, parse_settings
from leads_pipeline.services.stack import Stack, free_port
from leads_pipeline.services.supervisor import Supervisor
from leads_pipeline.storage.api_keys import create_api_key
from leads_pipeline.storage.embedded import EmbeddedServer
from leads_pipeline.storage.open import open_database

TENANT = "acme"
SOURCES = {"website": "real_time", "webinar": "near_real_time"}

# Five assets that do nothing, a sensor as anybody writes it, and one that waits in its tick as ours do.
EMPTY_LOCATION = """
import time
from pathlib import Path

import dagster as dg

HERE = Path(__file__).parent


@dg.asset
def one() -> None: ...
@dg.asset(deps=[one])
def two() -> None: ...
@dg.asset(deps=[two])
def three() -> None: ...
@dg.asset(deps=[three])
def four() -> None: ...
@dg.asset(deps=[four])
def five() -> None: ...


plain = dg.define_asset_job("empty_plain", selection="*")
waiting = dg.define_asset_job("empty_waiting", selection="*")


def taken(name: str) -> bool:
    event = HERE / name
    if event.exists():
        event.unlink()
        return True
    return False


@dg.sensor(job=plain, default_status=dg.DefaultSensorStatus.RUNNING, minimum_interval_seconds=1)
def plain_sensor():
    return dg.RunRequest() if taken("plain") else dg.SkipReason("no event")


@dg.sensor(job=waiting, default_status=dg.DefaultSensorStatus.RUNNING, minimum_interval_seconds=1)
def waiting_sensor():
    until = time.monotonic() + 3
    while time.monotonic() < until:
        if taken("waiting"):
            return dg.RunRequest()
        time.sleep(0.25)
    return dg.SkipReason("no event")


defs = dg.Definitions(
    assets=[one, two, three, four, five], jobs=[plain, waiting], sensors=[plain_sensor, waiting_sensor],
    executor=dg.in_process_executor,
)
"""


@dataclass(frozen=True)
class Product:
    """What runs, and how to reach it."""

    directory: Path
    settings: Settings
    engine: sa.Engine
    capture_url: str
    webserver_url: str
    keys: dict[str, str]

    def post(self, source: str, leads: list[dict[str, Any]]) -> None:
        """Post one lead by itself, several as one batch."""
        headers = {"Authorization": f"Bearer {self.keys[source]}", "Content-Type": "application/json"}
        path, body = ("/v1/leads", leads[0]) if len(leads) == 1 else ("/v1/leads/batch", leads)
        request = urllib.request.Request(self.capture_url + path, data=json.dumps(body).encode(), headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            answer.read()

    def graphql(self, query: str, **variables: Any) -> dict[str, Any]:
        """Ask Dagster's web server."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"{self.webserver_url}/graphql", data=body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            found: dict[str, Any] = json.load(answer)
        if "errors" in found:
            raise RuntimeError(str(found["errors"])[:500])
        data: dict[str, Any] = found["data"]
        return data

    def ended_runs(self, job: str, *, since: float, status: str = "SUCCESS") -> list[dict[str, float]]:
        """The job's runs that were asked for since then and have ended so, the oldest first."""
        with self.engine.connect() as connection:
            rows = connection.execute(
                sa.text(
                    "select extract(epoch from create_timestamp at time zone 'UTC')::float8 as made, end_time as ended "
                    "from public.runs where pipeline_name = :job and status = :status "
                    "and create_timestamp >= to_timestamp(:since) at time zone 'UTC' order by id"
                ),
                {"job": job, "since": since, "status": status},
            )
            return [dict(row) for row in rows.mappings()]

    def wait_for_run(self, job: str, *, since: float, seconds: float = 180.0) -> dict[str, float]:
        """The first run of a job since then, once it has ended well."""
        deadline = time.monotonic() + seconds
        while not (found := self.ended_runs(job, since=since)):
            if time.monotonic() > deadline or self.ended_runs(job, since=since, status="FAILURE"):
                raise RuntimeError(f"no run of {job} ended well within {seconds:.0f} s; logs in {self.directory}")
            time.sleep(0.1)
        return found[0]


def _settings(directory: Path) -> Settings:
    document = {
        "version": 1,
        "state_dir": ".",
        "tenants": {
            TENANT: {
                "country": "US",
                "sources": {name: {"lane": lane} for name, lane in SOURCES.items()},
                "destinations": ["hubspot"],
            }
        },
        "destinations": {
            "hubspot": {
                "vendor": "hubspot",
                "account": "sandbox",
                "base_url": f"http://127.0.0.1:{free_port()}",
                "token": {"env": "LEADS_BENCHMARK_TOKEN"},
                "limits": {"windows": [{"requests": 190, "seconds": 10}]},
                "mapping": HUBSPOT_MAPPING,
            }
        },
        "capture": {"port": free_port()},
        "metrics": {"port": free_port()},
        "verification": {"mx": {"enabled": False}},
    }
    path = directory / "leads.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return parse_settings(path.read_text(encoding="utf-8"), path=path)


@contextmanager
def running_product(directory: Path) -> Iterator[Product]:
    """Door, sandbox CRM, Dagster's web server and daemon, until the block ends."""
    settings, clock = _settings(directory), SystemClock()
    (directory / "empty_location.py").write_text(EMPTY_LOCATION, encoding="utf-8")
    workspace = directory / "workspace.yaml"
    workspace.write_text(
        yaml.safe_dump(
            {
                "load_from": [
                    {"python_module": {"module_name": "leads_pipeline.definitions", "location_name": "leads"}},
                    {"python_file": {"relative_path": "empty_location.py", "location_name": "empty"}},
                ]
            }
        ),
        encoding="utf-8",
    )
    server = EmbeddedServer(settings.state_path)
    engine = open_database(settings)
    try:
        stack = Stack(settings, webserver_port=free_port())
        stack.prepare()
        environment = stack.environment()
        with Supervisor(log_directory=directory / "logs", clock=clock) as supervisor:
            for service in stack.services(environment, dagster=True):
                if "-w" in service.command:
                    command = list(service.command)
                    command[command.index("-w") + 1] = str(workspace)
                    service = type(service)(  # noqa: PLW2901 - the same, with another workspace
                        service.name, command, environment, service.is_ready, service.ready_seconds
                    )
                supervisor.start(service)
            with engine.begin() as connection:
                keys = {
                    name: create_api_key(connection, tenant=TENANT, source=name, now=clock.now()).text
                    for name in SOURCES
                }
            yield Product(directory, settings, engine, stack.capture_url, stack.webserver_url, keys)
    finally:
        engine.dispose()
        server.remove()
