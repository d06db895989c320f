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
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from leads_pipeline.config import (
    CONFIG_VARIABLE,
    HUBSPOT_MAPPING,
    DestinationSettings,
    Settings,
    inherited_environment,
    project_file,
)
from leads_pipeline.errors import ConfigError, LeadsError
from leads_pipeline.services.supervisor import Service

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Stack:
    """Everything that a configuration needs running, on this machine."""

    settings: Settings
    webserver_port: int = 3000

    def local_sandboxes(self) -> dict[str, DestinationSettings]:
        """The destinations whose CRM is a sandbox that we start: those at an http address of this machine."""
        return {
            name: destination
            for name, destination in self.settings.destinations.items()
            if urlsplit(destination.base_url).scheme == "http" and urlsplit(destination.base_url).hostname in _LOOPBACK
        }

    @property
    def dagster_home(self) -> Path:
        return self.settings.state_path / "dagster"

    @property
    def capture_url(self) -> str:
        return f"http://{self.settings.capture.host}:{self.settings.capture.port}"

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
        for destination in self.local_sandboxes().values():
            if not environment.get(destination.token.env):
                environment[destination.token.env] = self._sandbox_token()
        return environment

    def missing_secrets(self, environment: Mapping[str, str]) -> list[str]:
        """The environment variables that leads.yaml refers to and that are not set."""
        return sorted({ref.env for ref in self.settings.secrets().values() if not environment.get(ref.env)})

    def _sandbox_token(self) -> str:
        """One token for every process that meets this state directory's sandboxes, whoever started them."""
        path = self.settings.state_path / "sandbox-token"
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(24))
        return path.read_text(encoding="utf-8")

    def ports(self, *, dagster: bool) -> dict[int, str]:
        """The ports that must be free, each with the setting that moves it."""
        wanted = {self.settings.capture.port: "capture.port in leads.yaml"}
        for name, destination in self.local_sandboxes().items():
            wanted[_port(destination)] = f"destinations.{name}.base_url in leads.yaml"
        if dagster:
            wanted[self.webserver_port] = "--port"
        return wanted

    def check_ports(self, *, dagster: bool) -> None:
        """Raise ``LeadsError`` if something else listens where we are going to."""
        taken = [
            f"port {port} is taken; choose another with {setting}"
            for port, setting in self.ports(dagster=dagster).items()
            if not _is_free(port)
        ]
        if taken:
            raise LeadsError("cannot start: " + "; ".join(taken))

    def services(self, environment: dict[str, str], *, dagster: bool) -> list[Service]:
        """Every process, in the order in which they are started."""
        doors = [*self.sandbox_services(environment), self.capture_service(environment)]
        if not dagster:
            return doors
        # The web server first: it creates Dagster's tables, which two processes at once would race for.
        return [*doors, self.webserver_service(environment), self.daemon_service(environment)]

    def sandbox_services(self, environment: dict[str, str]) -> list[Service]:
        """One sandbox CRM per local destination, with exactly the limits that the limiter is to hold."""
        services = []
        for name, destination in self.local_sandboxes().items():
            window = destination.limits.windows[0]
            own_properties = sorted(set(destination.mapping.values()) - set(HUBSPOT_MAPPING.values()))
            command = [
                *_leads(), "sandbox", "serve", "--vendor", destination.vendor,
                "--host", "127.0.0.1", "--port", str(_port(destination)),
                "--requests", str(window.requests), "--per", str(window.seconds),
                "--token-env", destination.token.env,
                "--key-property", destination.key_property,
                *(part for name in own_properties for part in ("--property", name)),
                "--store", str(self.settings.state_path / f"sandbox-{name}.sqlite"),
            ]  # fmt: skip
            if destination.limits.daily:
                command += ["--daily", str(destination.limits.daily.requests)]
                command += ["--time-zone", destination.limits.daily.time_zone]
            url = f"{destination.base_url}/_sandbox/report"
            services.append(Service(f"sandbox-{name}", command, environment, is_ready=partial(answers, url)))
        return services

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


def answers(url: str) -> bool:
    """Whether an HTTP GET gives a 2xx."""
    try:
        return httpx.get(url, timeout=2, trust_env=False).is_success
    except httpx.TransportError:
        return False


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _port(destination: DestinationSettings) -> int:
    port = urlsplit(destination.base_url).port
    if port is None:
        raise ConfigError(f"a sandbox needs a port in its base_url, {destination.base_url} has none")
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
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
