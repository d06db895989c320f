"""What chaos is done to: PostgreSQL, Redis, the capture service and a worker, each a process of our own.

Only processes that were started here are signalled, each by its pid.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil
import psycopg
import pytest
import sqlalchemy as sa

from leads_pipeline.clock import SystemClock
from leads_pipeline.config import CONFIG_VARIABLE, DATABASE_URL_VARIABLE, Settings, load_settings
from leads_pipeline.storage.database import engine_for
from leads_pipeline.storage.embedded import EmbeddedServer
from leads_pipeline.storage.embedded_home import home_directory, prepare_home
from leads_pipeline.storage.migrate import upgrade
from leads_pipeline_tests.buffer.redis_server import MISSING, RedisServer, is_installed
from leads_pipeline_tests.capture.running import make_key
from leads_pipeline_tests.chaos.small_disk import SmallDisk
from leads_pipeline_tests.ports import free_port

# No limit of the door shall come in the way of chaos; the disk is let run full, not watched.
LEADS_YAML = """
version: 1
tenants:
  acme:
    sources:
      website: {lane: real_time, rate: {requests: 1000000, seconds: 1}}
capture: {workers: WORKERS}
buffer:
  bounds: {min_free_disk_bytes: 0}
"""
_REDIS_VARIABLE = "CHAOS_REDIS_URL"
_IN_REDIS = f"  kind: redis\n  redis: {{url: {{env: {_REDIS_VARIABLE}}}}}\n"
TENANT = "acme"
_DRAIN = Path(__file__).parent / "drain.py"
_pause = threading.Event()


@dataclass
class Child:
    """A process that is started, killed and started again with the same command."""

    command: list[str]
    environment: dict[str, str]
    log: Path
    waits_for: bytes | None = None  # the beginning of the line that says that it is ready
    running: subprocess.Popen[bytes] | None = None

    def start(self, **more: str) -> None:
        with self.log.open("ab") as errors:
            self.running = subprocess.Popen(
                self.command,
                env={**self.environment, **more},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if self.waits_for else errors,
                stderr=errors,
            )
        if self.waits_for:
            said = _first_line(self.running.stdout)
            assert said.startswith(self.waits_for), said + self.log.read_bytes()[-2000:]

    def end(self, how: signal.Signals, *, alone: bool = False) -> int:
        """Signal it, with the processes that it started if the signal leaves it no time, and wait for its end."""
        assert self.running is not None
        leaves_time = how is not signal.SIGKILL or alone
        children = [] if leaves_time else psutil.Process(self.running.pid).children(recursive=True)
        self.running.send_signal(how)
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.send_signal(how)
        code = self.running.wait(timeout=60)
        psutil.wait_procs(children, timeout=60)
        if self.running.stdout is not None:
            self.running.stdout.close()
        self.running = None
        return code

    def kill(self, *, alone: bool = False) -> None:
        assert self.end(signal.SIGKILL, alone=alone) == -signal.SIGKILL, "it had ended by itself"


@dataclass
class Target:
    """All of it. ``disk`` holds the table of the buffer, where the test asked for a small one."""

    server: EmbeddedServer
    engine: sa.Engine
    key: str
    port: int
    config: Path
    capture: Child
    worker: Child
    clock_file: Path
    redis: RedisServer | None = None
    disk: SmallDisk | None = None

    def superuser(self) -> psycopg.Connection:
        """A connection of its own, which writes also while the server is read-only."""
        connection = psycopg.connect(self.engine.url.set(drivername="postgresql").render_as_string(False))
        connection.autocommit = True
        connection.execute("set default_transaction_read_only = off")
        return connection

    @property
    def settings(self) -> Settings:
        """What the processes read."""
        return load_settings(str(self.config))

    def capture_workers(self) -> list[psutil.Process]:
        """The living processes that share the service's port, where there are several."""
        assert self.capture.running is not None
        children = psutil.Process(self.capture.running.pid).children()
        return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]

    def postgres_processes(self) -> list[psutil.Process]:
        """The postmaster and everything that it started."""
        pid = self.server.status().pid
        assert pid is not None, "PostgreSQL does not run"
        postmaster = psutil.Process(pid)
        return [postmaster, *postmaster.children(recursive=True)]


@contextlib.contextmanager
def running_target(
    state: Path,
    directory: Path,
    *,
    in_redis: bool = False,
    workers: int = 1,
    disk: SmallDisk | None = None,
    drain_pause_seconds: float = 0.05,
) -> Iterator[Target]:
    """A whole installation on a durable PostgreSQL of its own, under ``state``; the others' files in ``directory``."""
    server = EmbeddedServer(state)
    engine = engine_for(server.start())
    with contextlib.ExitStack() as stack:
        stack.callback(server.remove)
        stack.callback(engine.dispose)
        upgrade(engine, now=SystemClock().now())
        if disk is not None:
            _put_buffer_on(disk, engine, state)
        port, redis = free_port(), None
        if in_redis:
            redis = _durable_redis(directory)
            stack.callback(redis.stop)
            # For this process too: it reads what Redis holds at the end.
            stack.enter_context(pytest.MonkeyPatch.context()).setenv(_REDIS_VARIABLE, redis.url)
        config = directory / "leads.yaml"
        config.write_text(LEADS_YAML.replace("WORKERS", str(workers)) + (_IN_REDIS if in_redis else ""))
        clock_file = directory / "clock"
        clock_file.write_text("+0\n")
        environment = {
            **os.environ,
            CONFIG_VARIABLE: str(config),
            DATABASE_URL_VARIABLE: engine.url.set(drivername="postgresql").render_as_string(hide_password=False),
        }
        serve = [sys.executable, "-m", "leads_pipeline", "capture", "serve", "--port", str(port)]
        drain = [sys.executable, str(_DRAIN), str(config), str(drain_pause_seconds)]
        target = Target(
            server=server,
            engine=engine,
            key=make_key(engine, SystemClock()),  # type: ignore[arg-type]
            port=port,
            config=config,
            capture=Child(serve, environment, directory / "capture.log", b"capture listens on"),
            worker=Child(drain, environment, directory / "worker.log"),
            redis=redis,
            clock_file=clock_file,
            disk=disk,
        )
        for child in (target.capture, target.worker):
            stack.callback(_end, child)
            child.start()
        yield target


def faketime_environment(target: Target) -> dict[str, str]:
    """What lets a child's wall clock be stepped by writing ``target.clock_file``; its monotonic clock goes on."""
    found = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if found is None:
        pytest.skip("libfaketime was not found; on Debian and Ubuntu: apt install libfaketime")
    return {
        "LD_PRELOAD": str(found),
        "FAKETIME_TIMESTAMP_FILE": str(target.clock_file),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def beside_the_server(state: Path) -> Path:
    """A place for a mount that the server's user can reach, whoever owns the tests' own directories."""
    directory = home_directory(state)
    return directory.with_name(f"{directory.name}-disk")


def wait_for(condition: Callable[[], bool], what: str, *, seconds: float = 60) -> None:
    """Ask again and again until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: {what}"
        _pause.wait(0.02)


def hold(seconds: float) -> None:
    """Let a fault last: the one thing that no condition can end."""
    _pause.wait(seconds)


def _durable_redis(directory: Path) -> RedisServer:
    if not is_installed():
        pytest.skip(MISSING)
    data = directory / "redis"
    data.mkdir()
    return RedisServer(data).start()


def _put_buffer_on(disk: SmallDisk, engine: sa.Engine, state: Path) -> None:
    """Move the buffer's table and index onto the small disk, by a tablespace."""
    account = prepare_home(state).account
    if account is not None:
        os.chown(disk.directory, account.uid, account.gid)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"create tablespace small location '{disk.directory}'")
        connection.exec_driver_sql("alter table buffer set tablespace small")
        indexes = connection.exec_driver_sql("select indexname from pg_indexes where tablename = 'buffer'").scalars()
        for index in indexes.all():
            connection.exec_driver_sql(f"alter index {index} set tablespace small")
        # Once a minute, as is usual, would leave a minute's leads on the small disk after they have moved on.
        connection.exec_driver_sql("alter system set autovacuum_naptime = '1s'")
        connection.exec_driver_sql("select pg_reload_conf()")


def _end(child: Child) -> None:
    if child.running is not None:
        child.end(signal.SIGKILL)


def _first_line(stream: IO[bytes] | None) -> bytes:
    assert stream is not None
    return stream.readline()
