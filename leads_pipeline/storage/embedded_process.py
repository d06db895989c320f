"""The postmaster as a process: is it alive, is it ours, does it answer, what did it last say.

A pid that exists proves nothing: after ``kill -9`` it stays as a zombie until somebody reaps it, and in a container
nobody may; after a restart it can belong to another program. So a server is what answers on its port, and a postmaster
is a living process whose command line names our data directory.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import psutil
from psycopg.pq import PGconn, Ping

_LOG_TAIL_LINES = 12


@dataclass(frozen=True, slots=True)
class PidFile:
    """What ``postmaster.pid`` says."""

    pid: int
    shared_memory_id: int | None


def read_pid_file(data: Path) -> PidFile | None:
    """``postmaster.pid``, or ``None`` if there is none or it is still being written."""
    try:
        lines = (data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return None
    try:
        pid = int(lines[0])
    except (IndexError, ValueError):
        return None
    # Line 7 holds the key and the id of the System V segment that guards the data directory.
    words = lines[6].split() if len(lines) > 6 else []
    return PidFile(pid, int(words[1]) if len(words) == 2 and words[1].isdigit() else None)


def living_postmaster(data: Path) -> int | None:
    """The pid of the postmaster that runs over ``data``; ``None`` for no process, a zombie, or another program."""
    found = read_pid_file(data)
    if found is None:
        return None
    try:
        process = psutil.Process(found.pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return found.pid if str(data) in process.cmdline() else None
    except psutil.Error:
        return None


def still_attached(found: PidFile) -> bool:
    """Whether backends of a dead postmaster still hold its shared memory: starting a new one would corrupt the data."""
    if found.shared_memory_id is None:
        return False
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/sysvipc/shm").read_text(encoding="ascii").splitlines()[1:]:
            words = line.split()
            if int(words[1]) == found.shared_memory_id:
                return int(words[6]) > 0
    return False


def ping(port: int) -> Ping:
    """What ``pg_isready`` would say, without a process: answers, rejects (starting or stopping), or no response."""
    return Ping(PGconn.ping(f"host=127.0.0.1 port={port} dbname=postgres user=leads connect_timeout=2".encode()))


def log_tail(log: Path) -> str:
    """The last lines of the server's log, for an error message."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_TAIL_LINES:]
    except OSError:
        return "  (no log)"
    return "\n".join(f"  {line}" for line in lines) or "  (the log is empty)"
