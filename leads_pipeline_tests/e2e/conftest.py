"""What end-to-end tests share: a configuration of their own, and commands run as a user runs them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from leads_pipeline.storage.embedded import EmbeddedServer
from leads_pipeline_tests.ports import free_port

CONFIG = """
version: 1
tenants:
  acme:
    country: US
    sources:
      website: {{lane: real_time, priority: 60}}
    destinations: [hubspot]
destinations:
  hubspot:
    vendor: hubspot
    account: sandbox
    base_url: http://127.0.0.1:{sandbox_port}
    token: {{env: LEADS_E2E_TOKEN}}
capture: {{port: {capture_port}}}
metrics: {{port: {metrics_port}}}
"""


@dataclass(frozen=True)
class Checkout:
    """A leads.yaml with free ports, and the commands that use it."""

    config: Path
    capture_port: int
    sandbox_port: int
    metrics_port: int

    @property
    def state(self) -> Path:
        return self.config.parent / ".leads"

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "leads_pipeline", "--config", str(self.config), *arguments]

    def environment(self) -> dict[str, str]:
        left_out = ("PYTHONDONTWRITEBYTECODE", "LEADS_E2E_TOKEN", "DAGSTER_HOME")
        return {name: value for name, value in os.environ.items() if name not in left_out}

    def run(self, *arguments: str, timeout: float = 280) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(*arguments),
            env=self.environment(),
            cwd=self.config.parent,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    """A user's directory with a leads.yaml. Its servers are removed afterwards."""
    config = tmp_path / "leads.yaml"
    ports = {"sandbox_port": free_port(), "capture_port": free_port(), "metrics_port": free_port()}
    config.write_text(CONFIG.format(**ports), encoding="utf-8")
    made = Checkout(config, **ports)
    yield made
    for state in (made.state, made.state / "demo"):
        EmbeddedServer(state).remove()
