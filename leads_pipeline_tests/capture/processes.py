"""``leads capture serve`` as processes of their own."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from leads_pipeline.config import CONFIG_VARIABLE, DATABASE_URL_VARIABLE
from leads_pipeline_tests.conftest import LEADS_YAML

_LISTENS = re.compile(r"capture listens on (http://\S+)\n")


@dataclass
class Service:
    """A running service. ``errors`` is what it logged, once it has ended."""

    running: subprocess.Popen[str]
    url: str
    errors: str = ""

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.running.pid).children()

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it and return its exit code."""
        if self.running.poll() is None:
            self.running.send_signal(how)
        _out, self.errors = self.running.communicate(timeout=60)
        return self.running.returncode


@contextmanager
def service(
    directory: Path,
    database_url: str,
    *arguments: str,
    yaml: str = LEADS_YAML,
    environment: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    through: Sequence[str] = (),
    port: int = 0,
) -> Iterator[Service]:
    """A service that says that it listens; killed at the end if it still runs."""
    config = directory / "leads.yaml"
    config.write_text(yaml)
    named = {CONFIG_VARIABLE: str(config), DATABASE_URL_VARIABLE: database_url}
    running = subprocess.Popen(
        [*through, sys.executable, "-m", "leads_pipeline", "capture", "serve", "--port", str(port), *arguments],
        env={**os.environ, **named, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=tuple(pass_fds),
    )
    found = Service(running, "")
    try:
        assert running.stdout is not None
        line = running.stdout.readline()
        listens = _LISTENS.fullmatch(line)
        assert listens, (line, found.end(signal.SIGKILL), found.errors)
        found.url = listens[1]
        yield found
    finally:
        if running.poll() is None:
            for worker in found.workers():
                worker.kill()
            found.end(signal.SIGKILL)


def metric(url: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    from prometheus_client.parser import text_string_to_metric_families

    text = httpx.get(f"{url}/metrics", timeout=30, trust_env=False).raise_for_status().text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def connect(url: str, *, timeout: float = 30) -> socket.socket:
    """A bare connection to a service."""
    host, _, port = url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=timeout)


def received(connection: socket.socket) -> bytes:
    """Everything until the other side closes."""
    parts = []
    while part := connection.recv(65_536):
        parts.append(part)
    return b"".join(parts)
