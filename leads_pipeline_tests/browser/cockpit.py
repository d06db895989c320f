"""The product with Dagster's real UI, on ports and a database of its own: for screenshots and a browser's look."""

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import yaml

from leads_pipeline.clock import SystemClock
from leads_pipeline.config import HUBSPOT_MAPPING, Settings, parse_settings
from leads_pipeline.services.stack import Stack
from leads_pipeline.services.supervisor import Supervisor
from leads_pipeline.storage.api_keys import create_api_key
from leads_pipeline.storage.embedded import EmbeddedServer
from leads_pipeline.storage.open import open_database
from leads_pipeline_tests.ports import free_port

TENANT, SOURCE = "acme", "website"
WAIT_SECONDS = 300.0

_LAUNCH = """
mutation Launch($job: String!) {
  launchRun(executionParams: {selector: {repositoryLocationName: "leads", repositoryName: "__repository__",
      jobName: $job}, runConfigData: "{}"}) { __typename }
}
"""


@dataclass(frozen=True)
class Cockpit:
    """A running product."""

    url: str
    capture_url: str
    key: str
    engine: sa.Engine

    def post(self, leads: list[dict[str, Any]]) -> None:
        """Post leads through the door, as one batch."""
        self._send(f"{self.capture_url}/v1/leads/batch", leads, {"Authorization": f"Bearer {self.key}"})

    def launch(self, job: str) -> None:
        """Ask for a run, as a person does in the UI, and wait until it has ended."""
        before = self.ended(job)
        answer = self._send(f"{self.url}/graphql", {"query": _LAUNCH, "variables": {"job": job}}, {})
        assert answer["data"]["launchRun"]["__typename"] == "LaunchRunSuccess", answer
        self.wait_until(lambda: self.ended(job) > before)

    def ended(self, job: str) -> int:
        """How many runs of a job have ended well."""
        return self.count(f"select count(*) from public.runs where pipeline_name = '{job}' and status = 'SUCCESS'")

    def count(self, statement: str) -> int:
        with self.engine.connect() as connection:
            found: int = connection.execute(sa.text(statement)).scalar_one()
        return found

    @staticmethod
    def wait_until(condition: Callable[[], bool], *, seconds: float = WAIT_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain"
            time.sleep(0.2)

    @staticmethod
    def _send(url: str, body: object, headers: dict[str, str]) -> Any:
        request = urllib.request.Request(
            url, data=json.dumps(body).encode(), headers={"Content-Type": "application/json", **headers}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


def _settings(directory: Path) -> Settings:
    document = {
        "version": 1,
        "state_dir": ".",
        "tenants": {TENANT: {"country": "US", "sources": {SOURCE: {"lane": "real_time"}}, "destinations": ["hubspot"]}},
        "destinations": {
            "hubspot": {
                "vendor": "hubspot",
                "account": "sandbox",
                "base_url": f"http://127.0.0.1:{free_port()}",
                "token": {"env": "LEADS_COCKPIT_TOKEN"},
                "limits": {"windows": [{"requests": 100, "seconds": 10}]},
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
def cockpit(directory: Path, *, analytics: bool = True) -> Iterator[Cockpit]:
    """The door, a sandbox CRM, Dagster's web server and daemon, until the block ends. Everything is on 127.0.0.1."""
    settings, clock = _settings(directory), SystemClock()
    workspace = directory / "workspace.yaml"
    location = {"python_module": {"module_name": "leads_pipeline.definitions", "location_name": "leads"}}
    workspace.write_text(yaml.safe_dump({"load_from": [location]}), encoding="utf-8")
    server = EmbeddedServer(settings.state_path)
    engine = open_database(settings)
    try:
        stack = Stack(settings, webserver_port=free_port())
        stack.prepare()
        environment = stack.environment()
        with Supervisor(log_directory=directory / "logs", clock=clock) as supervisor:
            for service in stack.services(environment, dagster=True):
                command = list(service.command)
                if "-w" in command and not analytics:
                    command[command.index("-w") + 1] = str(workspace)
                supervisor.start(
                    type(service)(service.name, command, environment, service.is_ready, service.ready_seconds)
                )
            with engine.begin() as connection:
                key = create_api_key(connection, tenant=TENANT, source=SOURCE, now=clock.now()).text
            yield Cockpit(stack.webserver_url, stack.capture_url, key, engine)
    finally:
        engine.dispose()
        server.remove()


def person(number: int) -> dict[str, str]:
    """Somebody invented."""
    first, last = ("Ada", "Bob", "Cleo", "Dan", "Eve")[number % 5], ("Quay", "Moor", "Vale")[number % 3]
    return {
        "email": f"{first}.{last}.{number}@example-{number % 7}.com".lower(),
        "first_name": first,
        "last_name": f"{last}{'abcdefghijklmnopqrstuvwxyz'[number % 26]}",
        "company": f"{last} & Sons",
    }
