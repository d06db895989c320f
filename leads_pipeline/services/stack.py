"""Which processes the product runs for a configuration, and what each one is told.

``Stack`` knows ports, directories and the environment; starting and stopping is the supervisor's work. Add a process
here; keep out what it does.
"""

import contextlib
import os
import secrets
import shutil
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from leads_pipeline.config import (
    CONFIG_VARIABLE,
    Settings,
    inherited_environment,
    project_file,
)
from leads_pipeline.errors import LeadsError
from leads_pipeline.services.sandboxes import LocalSandbox, answers, local_sandboxes
from leads_pipeline.services.supervisor import Service


@dataclass(frozen=True)
class Stack:
    """Everything that a configuration needs running, on this machine."""

    settings: Settings
    webserver_port: int = 3000

    @cached_property
    def sandboxes(self) -> list[LocalSandbox]:
        """The sandboxes that we start in the place of vendors: those at an address of this machine."""
        return local_sandboxes(self.settings)

    @property
    def dagster_home(self) -> Path:
        return self.settings.state_path / "dagster"

    @property
    def capture_url(self) -> str:
        return f"http://{self.settings.capture.host}:{self.settings.capture.port}"

    @property
    def metrics_url(self) -> str:
        return f"http://{self.settings.metrics.host}:{self.settings.metrics.port}"

    @property
    def webserver_url(self) -> str:
        return f"http://127.0.0.1:{self.webserver_port}"

    def prepare(self) -> None:
        """Put Dagster's instance file where it keeps its run storage: outside of the repository's tracked files."""
        self.dagster_home.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(project_file("dagster.yaml"), self.dagster_home / "dagster.yaml")

    def environment(self) -> dict[str, str]:
        """What every child process inherits: ours, plus where things are. Sandboxes get a token made up here."""
        environment = inherited_environment()
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # each run would compile its imports anew
        environment |= {
            CONFIG_VARIABLE: str(self.settings.path),
            "DAGSTER_HOME": str(self.dagster_home),
            "DAGSTER_DISABLE_TELEMETRY": "yes",
            "DO_NOT_TRACK": "1",
            "GX_ANALYTICS_ENABLED": "false",
            "PYTHONUNBUFFERED": "1",
        }
        for sandbox in self.sandboxes:
            for env in sandbox.secret_envs:
                if not environment.get(env):
                    environment[env] = self._sandbox_token()
        return environment

    def missing_secrets(self, environment: Mapping[str, str]) -> list[str]:
        """The environment variables that leads.yaml refers to and that are not set."""
        return sorted({ref.env for ref in self.settings.secrets().values() if not environment.get(ref.env)})

    def known_sandbox_keys(self) -> dict[str, str]:
        """What was made up for the sandboxes of this state directory, by variable; nothing before they ran once.

        For a command in another terminal, which would else take a sandbox for a provider without its key.
        """
        if not self._token_path.exists():
            return {}
        token = self._token_path.read_text(encoding="utf-8")
        return {env: token for sandbox in self.sandboxes for env in sandbox.secret_envs}

    @property
    def _token_path(self) -> Path:
        return self.settings.state_path / "sandbox-token"

    def _sandbox_token(self) -> str:
        """One token for every process that meets this state directory's sandboxes, whoever started them."""
        path = self._token_path
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(24))
        return path.read_text(encoding="utf-8")

    def ports(self, *, dagster: bool) -> dict[int, str]:
        """The ports that must be free, each with the setting that moves it."""
        wanted = {self.settings.capture.port: "capture.port in leads.yaml"}
        wanted |= {sandbox.port: sandbox.setting for sandbox in self.sandboxes}
        if dagster:
            wanted |= {self.settings.metrics.port: "metrics.port in leads.yaml", self.webserver_port: "--port"}
        return wanted

    def check_ports(self, *, dagster: bool) -> None:
        """Raise ``LeadsError`` if something else listens where we are going to."""
        over_udp = {sandbox.port for sandbox in self.sandboxes if sandbox.over_udp}
        taken = [
            f"port {port} is taken; choose another with {setting}"
            for port, setting in self.ports(dagster=dagster).items()
            if not _is_free(port) or (port in over_udp and not _is_free(port, socket.SOCK_DGRAM))
        ]
        if taken:
            raise LeadsError("cannot start: " + "; ".join(taken))

    def services(self, environment: dict[str, str], *, dagster: bool) -> list[Service]:
        """Every process, in the order in which they are started."""
        doors = [*self.sandbox_services(environment), self.capture_service(environment)]
        if not dagster:
            return doors
        # The web server first: it creates Dagster's tables, which two processes at once would race for.
        return [
            *doors,
            self.webserver_service(environment),
            self.daemon_service(environment),
            self.metrics_service(environment),
        ]

    def sandbox_services(self, environment: dict[str, str]) -> list[Service]:
        """One sandbox per local vendor, with exactly the limits that the limiter is to hold."""
        return [
            Service(
                sandbox.name,
                [*_leads(), "sandbox", "serve", *sandbox.arguments],
                environment,
                is_ready=sandbox.is_ready,
            )
            for sandbox in self.sandboxes
        ]

    def capture_service(self, environment: dict[str, str]) -> Service:
        return Service(
            "capture",
            [*_leads(), "capture", "serve"],
            environment,
            is_ready=partial(answers, f"{self.capture_url}/readyz"),
        )

    def webserver_service(self, environment: dict[str, str]) -> Service:
        command = [
            _script("dagster-webserver"), "-w", str(project_file("workspace.yaml")),
            "-h", "127.0.0.1", "-p", str(self.webserver_port),
        ]  # fmt: skip
        return Service(
            "dagster-webserver",
            command,
            environment,
            is_ready=partial(answers, f"{self.webserver_url}/server_info"),
            ready_seconds=180,
        )

    def daemon_service(self, environment: dict[str, str]) -> Service:
        return Service(
            "dagster-daemon", [_script("dagster-daemon"), "run", "-w", str(project_file("workspace.yaml"))], environment
        )

    def metrics_service(self, environment: dict[str, str]) -> Service:
        """What Prometheus may scrape; nothing reads the database for it until it is asked."""
        return Service(
            "metrics",
            [*_leads(), "metrics", "serve"],
            environment,
            is_ready=partial(answers, f"{self.metrics_url}/healthz"),
        )


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_free(port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> bool:
    with socket.socket(type=kind) as probe:
        if kind is socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _leads() -> list[str]:
    return [sys.executable, "-m", "leads_pipeline"]


def _script(name: str) -> str:
    return str(Path(sys.executable).parent / name)
