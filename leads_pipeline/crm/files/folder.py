"""A folder in which files appear whole or not at all, and survive a loss of power once they are there.

A file is written beside its place, flushed to the disk and renamed; then the folder itself is flushed. A reader lists
``contacts-*`` and never sees a part of one. Keep out: what the files say (``lines``).
"""

import errno
import fcntl
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from leads_pipeline.domain.delivery import Verdict

# Ours; whatever else lies there is somebody else's and is left alone.
_NAME = re.compile(r"contacts-[0-9a-f]{24}\.(ndjson|csv)")
# Hidden from readers; what a killed process left is taken away by the next one.
_UNFINISHED = ".writing-"
# Nobody writes for as long as that.
_LEFT_BEHIND_SECONDS = 3600.0

_SET_UP = {
    errno.ENOENT: "the folder is not there: make it, or mount its disk; it is not made for you, so that files do not "
    "go to the disk below",
    errno.ENOTDIR: "destinations.NAME.directory is not a folder: name one",
    errno.EACCES: "the folder may not be written to: let the user of the pipeline write to it",
    errno.EPERM: "the folder may not be written to: let the user of the pipeline write to it",
    errno.EROFS: "the disk is mounted for reading only: mount it for writing, or name another folder",
    errno.ENAMETOOLONG: "the name of destinations.NAME.directory is too long: name another folder",
    errno.ELOOP: "destinations.NAME.directory is a link to itself: mend it",
}
_STATUSES = {errno.ENOENT: 404, errno.ENOTDIR: 404, errno.ENOSPC: 507, errno.EDQUOT: 507, errno.EFBIG: 507}


class NotWritten(Exception):
    """A file is not there. ``uncertain``: it may be, or may vanish with the power."""

    def __init__(self, error: OSError, *, uncertain: bool = False) -> None:
        self._errno = error.errno or 0
        self._uncertain = uncertain
        super().__init__(self.code)

    @property
    def code(self) -> str:
        """The system's name for it, such as ENOSPC."""
        return errno.errorcode.get(self._errno, "IO_ERROR")

    @property
    def status(self) -> int:
        """As HTTP would say it, for the books."""
        return _STATUSES.get(self._errno, 403 if self._errno in _SET_UP else 503)

    @property
    def verdict(self) -> Verdict:
        """The class that it is of."""
        if self._uncertain:
            return Verdict.AMBIGUOUS
        return Verdict.AUTH if self._errno in _SET_UP else Verdict.TRANSIENT

    @property
    def explanation(self) -> str:
        """What happened, and what helps."""
        advice = _SET_UP.get(self._errno)
        if advice is None and self.status == 507:
            advice = "the disk is full: make room; what could not be written is written again"
        return advice or f"the disk failed ({self.code}); it is written again"


class Folder:
    """One folder. Safe to share between threads and processes."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def put(self, name: str, content: bytes, *, as_old_as: os.stat_result | None = None) -> None:
        """Have a file of this name and content; one of the name is replaced.

        ``as_old_as``: the file keeps the time of one that it stands for.

        Raises:
            NotWritten: see there.
        """
        unfinished = self._path / f"{_UNFINISHED}{secrets.token_hex(8)}"
        renamed = False
        try:
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                if as_old_as is not None:
                    os.utime(file.fileno(), ns=(as_old_as.st_atime_ns, as_old_as.st_mtime_ns))
                os.fsync(file.fileno())
            unfinished.replace(self._path / name)
            renamed = True
            with self._opened() as descriptor:
                os.fsync(descriptor)
        except OSError as error:
            with suppress(OSError):
                unfinished.unlink()
            raise NotWritten(error, uncertain=renamed) from None

    def rewrite(self, change: Callable[[str, bytes], bytes | None]) -> int:
        """Change the files that are there; returns how many were changed. One at a time, of all processes.

        ``change`` is given a name and a content, and says the new content, empty to take the file away, or ``None``.

        Raises:
            NotWritten: some may be changed and some not.
        """
        changed = 0
        try:
            with self._opened() as descriptor:
                # Of two that change a file at once the second would bring back what the first has taken out.
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                for path in self._files():
                    with suppress(FileNotFoundError):  # a reader has taken it away since
                        content = change(path.name, path.read_bytes())
                        if content:
                            self.put(path.name, content, as_old_as=path.stat())
                        elif content is not None:
                            path.unlink()
                        changed += content is not None
                if changed:
                    os.fsync(descriptor)
        except OSError as error:
            raise NotWritten(error, uncertain=bool(changed)) from None
        return changed

    def check(self) -> None:
        """Write a file and take it away, together with those that killed processes left.

        Raises:
            NotWritten: it cannot be written to.
        """
        probe = self._path / f"{_UNFINISHED}{secrets.token_hex(8)}"
        try:
            probe.write_bytes(b"")
            written_at = probe.stat().st_mtime
            probe.unlink()
            for path in self._path.glob(f"{_UNFINISHED}*"):
                with suppress(FileNotFoundError):
                    if written_at - path.stat().st_mtime > _LEFT_BEHIND_SECONDS:
                        path.unlink()
        except OSError as error:
            raise NotWritten(error) from None

    def _files(self) -> Iterator[Path]:
        return iter(sorted(path for path in self._path.iterdir() if _NAME.fullmatch(path.name)))

    @contextmanager
    def _opened(self) -> Iterator[int]:
        descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
