"""What the service tells systemd, and how it takes over the sockets that systemd opened."""

import contextlib
import http.client
import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from leads_pipeline.capture.server import KILL_AFTER_SECONDS
from leads_pipeline.capture.systemd import Notifier
from leads_pipeline.cli import cli
from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import CaptureSettings, ServiceManager, service_manager
from leads_pipeline_tests.capture.processes import service
from leads_pipeline_tests.capture.running import make_key, wait_until
from leads_pipeline_tests.capture.test_workers import stored

# Puts a socket where systemd puts it, says so, and becomes the service.
_ACTIVATE = (
    "import os, sys; fd = int(sys.argv[1]); os.dup2(fd, 3); os.set_inheritable(3, True); "
    "os.environ |= {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1'}; os.execv(sys.argv[2], sys.argv[2:])"
)


class Manager:
    """The socket that systemd would read from."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(30)
        self.heard: list[str] = []

    def hears(self, state: str) -> str:
        """Wait for a message that begins with this."""
        while True:
            self.heard.append(self.socket.recv(4096).decode())
            if self.heard[-1].startswith(state):
                return self.heard[-1]


@contextlib.contextmanager
def manager(address: str) -> Iterator[Manager]:
    found = Manager(address)
    with found.socket:
        yield found


@pytest.mark.parametrize("workers", ["1", "2"])
def test_systemd_is_told_when_it_serves_that_it_lives_and_when_it_ends(
    database_url: str, tmp_path: Path, workers: str
) -> None:
    address = str(tmp_path / "notify")
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "600000"}
    with (
        manager(address) as systemd,
        service(tmp_path, database_url, "--workers", workers, environment=environment) as running,
    ):
        ready = systemd.hears("READY=1")
        assert ready == f"READY=1\nSTATUS=listens on {running.url}"
        for _ in range(3):
            systemd.hears("WATCHDOG=1")
        running.running.terminate()
        systemd.hears("STOPPING=1")
        assert running.end() == 0


def test_an_abstract_address_is_understood_and_one_that_nobody_reads_is_no_fault() -> None:
    address = f"@leads-test-{os.getpid()}"
    with manager(address) as systemd:
        Notifier(ServiceManager(address, 0, None)).stopping()
        assert systemd.hears("STOPPING=1")
    Notifier(ServiceManager(address, 0, None)).stopping()
    Notifier(ServiceManager(None, 0, None)).ready("nobody is told")


def test_what_is_meant_for_another_process_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    assert service_manager() == ServiceManager(os.environ.get("NOTIFY_SOCKET"), 1, 30.0)
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert service_manager() == ServiceManager(os.environ.get("NOTIFY_SOCKET"), 0, None)
    monkeypatch.delenv("LISTEN_PID")
    assert service_manager().listen_fds == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_behind_systemd_s_socket_a_restart_refuses_no_connection(
    database_url: str, engine: sa.Engine, clock: FrozenClock, tmp_path: Path, workers: str
) -> None:
    key = make_key(engine, clock)
    stop = threading.Event()
    answered: list[int] = []

    def keep_posting(sender: int) -> None:
        """One connection a lead, as a page sends it; a refused one would raise."""
        place = 0
        while not stop.is_set():
            asking = http.client.HTTPConnection("127.0.0.1", listening.getsockname()[1], timeout=30)
            body = json.dumps({"number": f"{sender}-{place}"})
            headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
            asking.request("POST", "/v1/leads", body, headers)
            answered.append(asking.getresponse().status)
            asking.close()
            place += 1

    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening, ThreadPoolExecutor(8) as pool:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        through = [sys.executable, "-c", _ACTIVATE, str(listening.fileno())]
        senders = []
        for start in range(2):
            with service(
                tmp_path, database_url, "--workers", workers, through=through, pass_fds=[listening.fileno()]
            ) as running:
                assert running.url == url
                senders = senders or [pool.submit(keep_posting, sender) for sender in range(8)]
                seen = len(answered)
                wait_until(lambda seen=seen: len(answered) > seen + 100)  # type: ignore[misc]
                if start == 1:
                    stop.set()
                    for sender in senders:
                        sender.result(timeout=60)
                assert running.end() == 0
    assert set(answered) == {202}
    assert len(stored(engine)) == len(answered)


def test_a_socket_of_systemd_s_is_used_whatever_the_port_is(database_url: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        through = [sys.executable, "-c", _ACTIVATE, str(listening.fileno())]
        with service(tmp_path, database_url, through=through, pass_fds=[listening.fileno()], port=1) as running:
            assert running.port == listening.getsockname()[1]
            assert httpx.get(f"{running.url}/healthz", trust_env=False, timeout=60).status_code == 200


def test_the_example_units_start_a_command_that_exists_and_leave_it_the_time_that_it_takes() -> None:
    units = Path(__file__).parents[2] / "deploy" / "systemd"
    service_unit, socket_unit = (
        dict(
            line.split("=", 1)
            for line in (units / f"leads-capture.{kind}").read_text(encoding="utf-8").splitlines()
            if "=" in line and not line.startswith("#")
        )
        for kind in ("service", "socket")
    )
    _program, *arguments = service_unit["ExecStart"].split()
    assert CliRunner().invoke(cli, [*arguments, "--help"]).exit_code == 0
    assert service_unit["Type"] == "notify"
    assert float(service_unit["TimeoutStopSec"]) > KILL_AFTER_SECONDS
    # The supervisor looks round every quarter of a second and beats three times in that while.
    assert float(service_unit["WatchdogSec"]) > 3
    assert int(service_unit["LimitNOFILE"]) > CaptureSettings().max_connections
    host, _, port = socket_unit["ListenStream"].rpartition(":")
    assert (host, int(port)) == (CaptureSettings().host, CaptureSettings().port)
