"""A place of its own for a measurement of delivery: a database, services in processes of their own, and their CPU.

Everything listens on 127.0.0.1 and ends with the block, by its process id.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import psutil
import sqlalchemy as sa
import yaml

from leads_pipeline.clock import SystemClock
from leads_pipeline.config import DATABASE_URL_VARIABLE, HUBSPOT_MAPPING, Settings, load_settings
from leads_pipeline.services.stack import Stack, free_port
from leads_pipeline.services.supervisor import Service, Supervisor
from leads_pipeline.storage.database import engine_for
from leads_pipeline.storage.embedded import EmbeddedServer
from leads_pipeline.storage.migrate import upgrade

TOKEN_VARIABLE = "LEADS_BENCHMARK_TOKEN"  # the name of a variable
TOKEN = "benchmark-token"
OTHER_TOKEN_VARIABLE = "LEADS_BENCHMARK_OTHER_TOKEN"
OTHER_TOKEN = "benchmark-other-token"
TENANT, SOURCE, DESTINATION = "acme", "signup", "hubspot"
SCRIPT = Path(__file__).with_name("delivery.py")


def say(text: str) -> None:
    """Progress, apart from the figures."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


def destination(windows: Sequence[tuple[int, int]], *, in_flight: int = 4, **more: Any) -> dict[str, Any]:
    """A HubSpot-shaped destination with these windows (requests, seconds), as leads.yaml has it."""
    return {
        "vendor": "hubspot",
        "account": "benchmark",
        "base_url": f"http://127.0.0.1:{free_port()}",
        "token": {"env": TOKEN_VARIABLE},
        "limits": {
            "windows": [{"requests": most, "seconds": seconds} for most, seconds in windows],
            "daily": {"requests": 1_000_000, "time_zone": "UTC"},
            "in_flight": in_flight,
        },
        "mapping": {**HUBSPOT_MAPPING},
        **more,
    }


def one_tenant(**more: Any) -> dict[str, Any]:
    """A tenant with one source."""
    return {
        "country": "US",
        "sources": {SOURCE: {"lane": "real_time", "priority": 60}},
        "destinations": [DESTINATION],
        **more,
    }


@dataclass
class Place:
    """Where a measurement runs. ``cpu`` tells what each process has used, PostgreSQL as one."""

    directory: Path
    settings: Settings
    engine: sa.Engine
    environment: dict[str, str]
    supervisor: Supervisor
    _postmaster: psutil.Process
    _watched: dict[str, psutil.Process] = field(default_factory=dict)

    @property
    def base_url(self) -> str:
        """The CRM's sandbox."""
        return self.settings.destinations[DESTINATION].base_url

    def start_sandbox(self, *more: str) -> None:
        """The CRM's sandbox, in memory; ``more`` are arguments of `leads sandbox serve`."""
        found = next(item for item in Stack(self.settings).sandboxes if TOKEN_VARIABLE in item.secret_envs)
        place = found.arguments.index("--store")
        arguments = (*found.arguments[:place], *found.arguments[place + 2 :], *more)
        self._start("sandbox", [*_leads(), "sandbox", "serve", *arguments], is_ready=found.is_ready)

    def start_dns(self) -> None:
        """The DNS that verification asks."""
        for found in Stack(self.settings).sandboxes:
            if found.over_udp:
                self._start("dns", [*_leads(), "sandbox", "serve", *found.arguments], is_ready=found.is_ready)

    def start_door(self) -> None:
        """The capture door."""
        service = Stack(self.settings).capture_service(self.environment)
        self._start("door", service.command, is_ready=service.is_ready)

    def start_worker(self, name: str, *arguments: str) -> None:
        """A process of this benchmark."""
        self._start(name, [sys.executable, str(SCRIPT), "--worker", *arguments])

    def start_daemon(self) -> None:
        """Dagster's daemon, whose sensors start runs when something waits."""
        service = Stack(self.settings).daemon_service(self.environment)
        self._start("dagster", service.command)

    def start_leads(self, name: str, *arguments: str) -> None:
        """A command of the product."""
        self._start(name, [*_leads(), *arguments])

    def _start(self, name: str, command: Sequence[str], is_ready: Any = None) -> None:
        before = {child.pid for child in psutil.Process().children()}
        self.supervisor.start(Service(name, command, self.environment, is_ready=is_ready))
        started = [child for child in psutil.Process().children() if child.pid not in before]
        self._watched[name] = started[-1]

    def is_running(self, name: str) -> bool:
        """Whether a process still runs."""
        process = self._watched[name]
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE

    def log_of(self, name: str) -> list[str]:
        """What a process printed."""
        return self.supervisor.log_path(name).read_text(encoding="utf-8").splitlines()

    def cpu(self) -> dict[str, float]:
        """CPU seconds so far, by process; ``database`` is PostgreSQL with all its backends."""
        found = {name: _tree_seconds(process) for name, process in self._watched.items()}
        return {**found, "database": _tree_seconds(self._postmaster)}

    def report(self) -> dict[str, Any]:
        """What the CRM's sandbox counted."""
        return self.ask("report")

    def ask(self, what: str, **query: Any) -> dict[str, Any]:
        """The sandbox's own side."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = httpx.get(
            f"{self.base_url}/_sandbox/{what}", params=query, headers=headers, timeout=120, trust_env=False
        )
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def arrivals(self) -> list[dict[str, Any]]:
        """The sandbox's log of arrivals, whole."""
        found: list[dict[str, Any]] = []
        after: int | None = 0
        while after is not None:
            page = self.ask("arrivals", after=after, limit=1000)
            found += page["arrivals"]
            after = page["after"]
            if page["dropped"]:
                raise SystemExit("the sandbox has dropped a part of its log")
        return found

    def clock_of_the_log(self) -> float:
        """The Unix second at which the log of arrivals began: by a request of nobody's, which no limit counts."""
        sent = time.time()
        httpx.get(f"{self.base_url}/crm/v3/properties/contacts", timeout=30, trust_env=False)
        sent = (sent + time.time()) / 2
        return sent - max(item["seconds"] for item in self.arrivals() if item["application"] == 0)

    def scalar(self, statement: str, **values: Any) -> Any:
        """The first value of a query's first row."""
        with self.engine.connect() as connection:
            return connection.execute(sa.text(statement), values).scalar()


@contextlib.contextmanager
def place_for(document: Mapping[str, Any]) -> Iterator[Place]:
    """A database for a leads.yaml of ``document``, and whatever is started in it."""
    with tempfile.TemporaryDirectory(prefix="leads-bench-") as temporary:
        directory = Path(temporary)
        path = directory / "leads.yaml"
        text = {"version": 1, "state_dir": "state", "capture": {"port": free_port()}, **document}
        path.write_text(yaml.safe_dump(text, sort_keys=False), encoding="utf-8")
        os.environ |= {TOKEN_VARIABLE: TOKEN, OTHER_TOKEN_VARIABLE: OTHER_TOKEN}
        settings = load_settings(str(path))
        server = EmbeddedServer(settings.state_path)
        try:
            os.environ[DATABASE_URL_VARIABLE] = url = server.start()
            engine = engine_for(url)
            upgrade(engine, now=SystemClock().now())
            pid = server.status().pid
            assert pid is not None
            stack = Stack(settings)
            stack.prepare()
            environment = stack.environment() | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
            with Supervisor(log_directory=directory / "logs", clock=SystemClock()) as supervisor:
                yield Place(directory, settings, engine, environment, supervisor, psutil.Process(pid))
            engine.dispose()
        finally:
            os.environ.pop(DATABASE_URL_VARIABLE, None)
            server.remove()


class Deadline:
    """A bound for whatever is waited for."""

    def __init__(self, seconds: float) -> None:
        self._ends_at = time.monotonic() + seconds

    @property
    def over(self) -> bool:
        return time.monotonic() >= self._ends_at

    def nap(self, seconds: float, *, waiting_for: str) -> None:
        """Wait a moment; ends the benchmark when the time is over."""
        if self.over:
            raise SystemExit(f"gave up waiting for {waiting_for}")
        time.sleep(seconds)


class CpuSampler(threading.Thread):
    """Adds up processes' CPU while they live, so that what short-lived children used is not lost."""

    def __init__(self, place: Place, *, every: float = 1.0) -> None:
        super().__init__(daemon=True)
        self._place, self._every = place, every
        self._done = threading.Event()
        self.began = place.cpu()
        self.seconds: dict[str, float] = {}
        self.series: list[tuple[float, dict[str, float]]] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._done.set()
        self.join()
        self._sample()

    def run(self) -> None:
        while not self._done.wait(self._every):
            self._sample()

    def _sample(self) -> None:
        for name, used in self._place.cpu().items():
            self.seconds[name] = max(self.seconds.get(name, 0.0), used - self.began.get(name, 0.0))
        self.series.append((time.time(), dict(self.seconds)))


def machine_busy() -> float:
    """CPU seconds that the machine has spent, by whomever."""
    times = psutil.cpu_times()
    return float(times.user + times.system + times.nice + times.irq + times.softirq)


def lines_of(text: Iterable[str]) -> list[dict[str, Any]]:
    """The JSON objects among what a process printed."""
    return [json.loads(line) for line in text if line.startswith("{")]


def _leads() -> list[str]:
    return [sys.executable, "-m", "leads_pipeline"]


def _tree_seconds(process: psutil.Process) -> float:
    total = 0.0
    try:
        times = process.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
        for child in process.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                spent = child.cpu_times()
                total += spent.user + spent.system + spent.children_user + spent.children_system
    except psutil.Error:
        return total
    return total


def run_aside(command: Sequence[str], environment: Mapping[str, str], *, seconds: float) -> str:
    """Run a command to its end, bounded in time; what it printed."""
    done = subprocess.run(
        list(command), env=dict(environment), capture_output=True, text=True, timeout=seconds, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{command[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout
