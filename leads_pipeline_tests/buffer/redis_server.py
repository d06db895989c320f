"""A real redis-server of the tests' own, in a directory of its own, ended by its process."""

import shutil
import signal
import subprocess
import threading
from pathlib import Path

import redis

from leads_pipeline_tests.ports import free_port

MISSING = "redis-server is not on the PATH; install it: apt-get install redis-server"
DURABLE = {"appendonly": "yes", "appendfsync": "always"}


def is_installed() -> bool:
    """Whether there is a redis-server to start."""
    return shutil.which("redis-server") is not None


class RedisServer:
    """Start it, kill it, start it again: what it acknowledged is in its directory."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self._directory = directory
        self._settings = DURABLE | {name.replace("_", "-"): value for name, value in settings.items()}
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> "RedisServer":
        """Start the server, and return when it answers."""
        options = [part for name, value in self._settings.items() for part in (f"--{name}", *value.split())]
        place = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._directory), "--save", ""]
        self._process = subprocess.Popen(
            ["redis-server", *place, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        pause = threading.Event()
        for _ in range(3_000):
            if self._process.poll() is not None:
                raise AssertionError(f"redis-server ended with {self._process.returncode}")
            try:
                with self.client() as client:
                    client.ping()
            except redis.exceptions.ConnectionError:
                pause.wait(0.02)
            else:
                return self
        raise AssertionError("redis-server did not answer within 60 s")

    def kill(self) -> None:
        """End it as a crash does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it, whether or not it runs."""
        if self._process is not None and self._process.poll() is None:
            self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Let it answer nothing, without closing a connection."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it answer again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def client(self) -> "redis.Redis":
        """A client of the test's own."""
        return redis.Redis(port=self.port)

    def _end(self, how: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(timeout=30)
