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
from typing import IO

from leads_pipeline.domain.delivery import Verdict

# Ours; whatever else lies there is somebody else's and is left alone.
_NAME = re.compile(r"contacts-[0-9a-f]{24}\.(ndjson|csv)")
# Hidden from readers, and locked by whoever writes it; what a killed process left is taken away by the next one.
_UNFINISHED = ".writing-"

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
    """A file is not there. ``uncertain``: it may be, or may vanish with the power. ``damaged``: one that is no file
    of ours any more, and stands in the way."""

    def __init__(self, error: OSError, *, uncertain: bool = False, damaged: str | None = None) -> None:
        self._errno = error.errno or 0
        self._uncertain = uncertain
        self._damaged = damaged
        super().__init__(self.code)

    @property
    def code(self) -> str:
        """The system's name for it, such as ENOSPC."""
        return errno.errorcode.get(self._errno, "IO_ERROR")

    @property
    def status(self) -> int:
        """As HTTP would say it, for the books."""
        if self._damaged is not None:
            return 422
        return _STATUSES.get(self._errno, 403 if self._errno in _SET_UP else 503)

    @property
    def verdict(self) -> Verdict:
        """The class that it is of."""
        if self._damaged is not None:
            return Verdict.INVALID
        if self._uncertain:
            return Verdict.AMBIGUOUS
        return Verdict.AUTH if self._errno in _SET_UP else Verdict.TRANSIENT

    @property
    def explanation(self) -> str:
        """What happened, and what helps."""
        if self._damaged is not None:
            return f"{self._damaged} names the contact and cannot be read: take it away, then send the erasure again"
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
        unfinished: Path | None = None
        renamed = False
        try:
            with self._unfinished() as (unfinished, file):
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
            if unfinished is not None:
                with suppress(OSError):
                    unfinished.unlink()
            raise NotWritten(error, uncertain=renamed) from None

    def rewrite(self, change: Callable[[str, bytes], bytes | None]) -> int:
        """Change the files that are there; returns how many were changed. One at a time, of all processes.

        What killed processes left unfinished is taken away: it says of people what no file says any more.

        ``change`` is given a name and a content, and says the new content, empty to take the file away, or ``None``;
        a ``ValueError`` that the content cannot be read.

        Raises:
            NotWritten: some may be changed and some not. What can be read is changed before one that cannot is named.
        """
        changed = 0
        damaged: str | None = None
        try:
            with self._opened() as descriptor:
                self._take_away_unfinished()
                # Of two that change a file at once the second would bring back what the first has taken out.
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                for path in self._files():
                    with suppress(FileNotFoundError):  # a reader has taken it away since
                        try:
                            content = change(path.name, path.read_bytes())
                        except ValueError:
                            damaged = path.name
                            continue
                        if content:
                            self.put(path.name, content, as_old_as=path.stat())
                        elif content is not None:
                            path.unlink()
                        changed += content is not None
                if changed:
                    os.fsync(descriptor)
        except OSError as error:
            raise NotWritten(error, uncertain=bool(changed)) from None
        if damaged is not None:
            raise NotWritten(OSError(errno.EBADMSG, ""), damaged=damaged)
        return changed

    def check(self) -> None:
        """Write a file and take it away, together with those that killed processes left.

        Raises:
            NotWritten: it cannot be written to.
        """
        try:
            with self._unfinished() as (probe, _file):
                probe.unlink()
            self._take_away_unfinished()
        except OSError as error:
            raise NotWritten(error) from None

    @contextmanager
    def _unfinished(self) -> Iterator[tuple[Path, IO[bytes]]]:
        """A new file that nobody sees, locked for as long as it is written."""
        while True:
            path = self._path / f"{_UNFINISHED}{secrets.token_hex(8)}"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
            with os.fdopen(descriptor, "wb") as file:
                # Somebody may take it away as a dead one's between the two lines.
                if _locked(descriptor) and os.fstat(descriptor).st_nlink:
                    yield path, file
                    return

    def _take_away_unfinished(self) -> None:
        for path in self._path.glob(f"{_UNFINISHED}*"):
            with suppress(FileNotFoundError):  # it is finished
                descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
                with os.fdopen(descriptor, "wb"):
                    if _locked(descriptor):
                        path.unlink()

    def _files(self) -> Iterator[Path]:
        return iter(sorted(path for path in self._path.iterdir() if _NAME.fullmatch(path.name)))

    @contextmanager
    def _opened(self) -> Iterator[int]:
        descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _locked(descriptor: int) -> bool:
    """Whether the file is ours now; the lock ends with the descriptor, or with the process."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
