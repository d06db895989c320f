"""A disk that is small enough to be filled: a tmpfs of our own, or a container's /dev/shm."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

_SHARED_MEMORY = Path("/dev/shm")
# A container's /dev/shm has 64 MB. One of gigabytes is the machine's memory, and is not ours to fill.
_LARGEST_SHARED_MEMORY = 256 * 1024 * 1024
_PIECE = b"\0" * 65_536


@dataclass(frozen=True)
class SmallDisk:
    """``directory`` is for whoever shall run out of space."""

    directory: Path
    ballast: Path

    def fill(self) -> None:
        """Take every byte that is left, also what is given back a moment later."""
        with self.ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(_PIECE)
        with self.ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(_PIECE[:1024])

    def clear(self) -> None:
        """Give it all back."""
        self.ballast.unlink(missing_ok=True)

    @property
    def free_bytes(self) -> int:
        found = os.statvfs(self.directory)
        return found.f_bavail * found.f_frsize


@contextlib.contextmanager
def small_disk(mount_point: Path, *, megabytes: int) -> Iterator[SmallDisk]:
    """A disk of so many megabytes; skips the test where none can be had."""
    mount_point.mkdir(mode=0o755, parents=True)
    mounted = _mount(mount_point, megabytes)
    place = mount_point if mounted else _SHARED_MEMORY / f"leads_pipeline_chaos-{os.getpid()}"
    if not mounted and not _is_small(_SHARED_MEMORY):
        pytest.skip(
            "no small disk to fill: mounting a tmpfs was refused, and /dev/shm is too large to fill; "
            "run as root, in a container started with --cap-add SYS_ADMIN, or in one with --shm-size 64m"
        )
    place.mkdir(exist_ok=True)
    (place / "store").mkdir()
    disk = SmallDisk(place / "store", place / "ballast")
    try:
        yield disk
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", mount_point], check=True, timeout=60)
        else:
            shutil.rmtree(place)
        mount_point.rmdir()


def _mount(mount_point: Path, megabytes: int) -> bool:
    if os.geteuid() != 0:
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "chaos", str(mount_point)]
    return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0


def _is_small(path: Path) -> bool:
    with contextlib.suppress(OSError):
        found = os.statvfs(path)
        return os.access(path, os.W_OK) and found.f_blocks * found.f_frsize <= _LARGEST_SHARED_MEMORY
    return False
