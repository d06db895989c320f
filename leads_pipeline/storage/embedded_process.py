"""The postmaster as a process: which one it is, whether it answers, and what it last said."""

from pathlib import Path

import psutil
from psycopg.pq import PGconn, Ping

_LOG_TAIL_LINES = 12


def living_postmaster(data: Path) -> int | None:
    """The pid of the postmaster that runs over ``data``; ``None`` for no process, a zombie, or another program.

    For showing and signalling. Whether anything of the server lives at all is the ``alive`` lock's to say.
    """
    try:
        first_line = (data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").partition("\n")[0]
        process = psutil.Process(int(first_line))
        if process.status() == psutil.STATUS_ZOMBIE or str(data) not in process.cmdline():
            return None
    except (FileNotFoundError, ValueError, psutil.Error):
        return None
    return process.pid


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
