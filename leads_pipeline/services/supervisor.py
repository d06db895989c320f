"""Starts processes, watches them and stops all of them, whatever ends the supervisor.

Children get default signal dispositions (a background shell job hands down ignored ones, and Dagster would then outlive
its Ctrl-C), a session of their own (so that Ctrl-C reaches the supervisor, which ends them cleanly) and, on Linux, a
death signal: if the supervisor is killed, they end too.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from leads_pipeline.clock import Clock
from leads_pipeline.errors import LeadsError
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)

_PR_SET_PDEATHSIG = 1
_TAIL_LINES = 15
# Dagster's webserver and daemon need about 2 s to end their code servers.
STOP_SECONDS = 20.0


class ServiceFailed(LeadsError):
    """A process did not come up, or ended by itself."""


@dataclass(frozen=True, slots=True)
class Service:
    """One process. ``is_ready`` is asked until it says yes; ``None`` means ready as soon as it runs."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    is_ready: Callable[[], bool] | None = None
    ready_seconds: float = 60.0


class Supervisor:
    """Runs services side by side. A context manager: leaving it stops all of them."""

    def __init__(self, *, log_directory: Path, clock: Clock) -> None:
        self._log_directory = log_directory
        self._clock = clock
        self._running: list[tuple[Service, subprocess.Popen[bytes]]] = []

    def __enter__(self) -> Self:
        self._log_directory.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def log_path(self, name: str) -> Path:
        """Where a service's output goes."""
        return self._log_directory / f"{name}.log"

    def start(self, service: Service, *, stop_asked: threading.Event | None = None) -> None:
        """Start ``service`` and wait until it is ready.

        Raises:
            ServiceFailed: it ended, or was not ready in time; the message holds the end of its log.
        """
        with self.log_path(service.name).open("wb") as output:
            process = subprocess.Popen(
                list(service.command),
                env=dict(service.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_prepare_child,  # noqa: PLW1509 - only async-signal-safe calls; see _prepare_child
            )
        self._running.append((service, process))
        deadline = self._clock.monotonic() + service.ready_seconds
        while service.is_ready is not None and not service.is_ready():
            if process.poll() is not None:
                raise ServiceFailed(f"{service.name} ended with exit code {process.returncode}.{self._tail(service)}")
            if self._clock.monotonic() > deadline:
                raise ServiceFailed(
                    f"{service.name} was not ready after {service.ready_seconds:.0f} s.{self._tail(service)}"
                )
            if stop_asked is not None and stop_asked.is_set():
                return
            self._clock.sleep(0.05)

    def watch(self, stop_asked: threading.Event) -> None:
        """Return when ``stop_asked`` is set.

        Raises:
            ServiceFailed: a service ended by itself.
        """
        while not stop_asked.wait(0.5):
            for service, process in self._running:
                if process.poll() is not None:
                    raise ServiceFailed(
                        f"{service.name} ended by itself with exit code {process.returncode}.{self._tail(service)}"
                    )

    def stop(self) -> None:
        """Ask every service to end, then wait; kill what has not ended after ``STOP_SECONDS``."""
        # All at once: the web server and the daemon each take seconds to end their code servers.
        for _service, process in reversed(self._running):
            if process.poll() is None:
                process.terminate()
        deadline = self._clock.monotonic() + STOP_SECONDS
        for service, process in reversed(self._running):
            try:
                process.wait(max(0.0, deadline - self._clock.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("service_killed", service=service.name, waited_seconds=STOP_SECONDS)
            # The session's other processes (code servers) end with their parent; what is left would hold the ports.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._running.clear()

    def _tail(self, service: Service) -> str:
        path = self.log_path(service.name)
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:]
        return "\n".join([f" The end of {path}:", *(f"    {line}" for line in lines)])


@contextlib.contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGINT, SIGTERM and SIGHUP set, also where the shell that started us had them ignored.

    A second signal ends the process at once, with the exit code a shell expects.
    """
    asked = threading.Event()

    def ask(number: int, _frame: FrameType | None) -> None:
        if asked.is_set():
            sys.exit(128 + number)
        asked.set()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _prepare_child() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
