"""Processes that are started together end together, whatever ends them."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import psutil
import pytest

from leads_pipeline.clock import SystemClock
from leads_pipeline.services.supervisor import Service, ServiceFailed, Supervisor

ENVIRONMENT = dict(os.environ)


def python(code: str) -> list[str]:
    return [sys.executable, "-u", "-c", textwrap.dedent(code)]


def service(name: str, code: str, marker: Path | None = None, **options: float) -> Service:
    is_ready = marker.exists if marker else None
    return Service(name, python(code), ENVIRONMENT, is_ready=is_ready, **options)


WAITS = """
import pathlib, signal, sys
pathlib.Path({marker!r}).write_text("up")
signal.pause()
"""


@pytest.fixture
def supervisor(tmp_path: Path):
    with Supervisor(log_directory=tmp_path / "logs", clock=SystemClock()) as made:
        yield made


def test_a_service_is_started_and_stopped(supervisor: Supervisor, tmp_path: Path):
    marker = tmp_path / "up"

    supervisor.start(service("waits", WAITS.format(marker=str(marker)), marker))

    assert marker.exists()
    (process,) = [child for child in psutil.Process().children() if str(marker) in " ".join(child.cmdline())]
    supervisor.stop()
    assert not process.is_running()


def test_a_service_that_ends_at_once_is_reported_with_the_end_of_its_log(supervisor: Supervisor, tmp_path: Path):
    with pytest.raises(ServiceFailed, match=r"breaks ended with exit code 3(?s:.*)no such thing"):
        supervisor.start(service("breaks", "print('no such thing'); raise SystemExit(3)", tmp_path / "never"))


def test_a_service_that_is_not_ready_in_time_is_reported(supervisor: Supervisor, tmp_path: Path):
    with pytest.raises(ServiceFailed, match="was not ready after 1 s"):
        supervisor.start(service("slow", "import signal; signal.pause()", tmp_path / "never", ready_seconds=1))


def test_a_service_that_dies_later_ends_the_watch(supervisor: Supervisor, tmp_path: Path):
    supervisor.start(service("dies", "raise SystemExit(7)"))

    with pytest.raises(ServiceFailed, match="ended by itself with exit code 7"):
        supervisor.watch(threading.Event())


def test_what_a_service_started_ends_with_it(supervisor: Supervisor, tmp_path: Path):
    marker = tmp_path / "up"
    code = f"""
    import pathlib, signal, subprocess, sys
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    pathlib.Path({str(marker)!r}).write_text(str(child.pid))
    signal.pause()
    """
    supervisor.start(service("parent", code, marker))
    grandchild = psutil.Process(int(marker.read_text()))

    supervisor.stop()

    psutil.wait_procs([grandchild], timeout=60)
    assert not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE


# A supervisor in a process of its own, started with SIGINT ignored, as a background job of a shell is.
SUPERVISES = """
import os, pathlib, sys
from leads_pipeline.clock import SystemClock
from leads_pipeline.services.supervisor import Service, Supervisor, stop_on_signals
code = "import pathlib, os, signal; pathlib.Path({marker!r}).write_text(str(os.getpid())); signal.pause()"
with stop_on_signals() as asked, Supervisor(log_directory=pathlib.Path({logs!r}), clock=SystemClock()) as supervisor:
    ready = lambda: os.path.exists({marker!r}) and os.path.getsize({marker!r}) > 0
    supervisor.start(Service("child", [sys.executable, "-c", code], dict(os.environ), is_ready=ready))
    print("watching", flush=True)
    supervisor.watch(asked)
print("stopped", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_supervisor_in_the_background_stops_everything_on_a_signal(number: signal.Signals, tmp_path: Path):
    marker = tmp_path / "child"
    process = subprocess.Popen(
        python(SUPERVISES.format(marker=str(marker), logs=str(tmp_path / "logs"))),
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "watching\n"
        child = psutil.Process(int(marker.read_text()))

        process.send_signal(number)

        assert process.stdout.readline() == "stopped\n"
    assert process.returncode == 0
    assert not child.is_running()


@pytest.mark.skipif(sys.platform != "linux", reason="the death signal is Linux's")
def test_a_killed_supervisor_takes_its_services_along(tmp_path: Path):
    marker = tmp_path / "child"
    process = subprocess.Popen(
        python(SUPERVISES.format(marker=str(marker), logs=str(tmp_path / "logs"))), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "watching\n"
        child = psutil.Process(int(marker.read_text()))

        process.kill()

        gone, _alive = psutil.wait_procs([child], timeout=60)
    assert gone or child.status() == psutil.STATUS_ZOMBIE
