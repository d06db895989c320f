"""File locks (flock). The kernel gives one back when its last holder dies, however it dies.

A lock belongs to an open file, not to a process: a child that inherits the descriptor holds the lock as well. That is
how the server's ``alive`` lock works. It is taken before a postmaster is launched, and inherited by the postmaster and
each backend, so it is free exactly when none of them is left. A pid would tell less: after ``kill -9`` it stays as a
zombie until somebody reaps it, which in a container may be nobody; after a restart it may belong to another program;
and a backend may outlive its postmaster, when starting a new one would corrupt the data.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from leads_pipeline.config import DATABASE_URL_VARIABLE
from leads_pipeline.errors import EmbeddedServerError

_POLL_SECONDS = 0.05


def try_lock(path: Path) -> int | None:
    """The descriptor that holds the lock on ``path``, or ``None`` if somebody else holds it. The caller closes it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock on ``path``."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def locked(path: Path, *, wait_seconds: float) -> Iterator[int]:
    """Hold the lock on ``path``, waiting for whoever holds it; gives the descriptor."""
    deadline = time.monotonic() + wait_seconds
    while (descriptor := try_lock(path)) is None:
        if time.monotonic() > deadline:
            raise EmbeddedServerError(
                f"another process has been starting or stopping an embedded PostgreSQL for {wait_seconds:.0f} s "
                f"(lock {path}); see what it waits for, or set {DATABASE_URL_VARIABLE} to a PostgreSQL of your own"
            )
        time.sleep(_POLL_SECONDS)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
