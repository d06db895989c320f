"""The error file of an import: rows that were refused, to be mended there and imported again."""

import os
from pathlib import Path
from typing import BinaryIO, Self

from leads_pipeline.buffer.files.rows import BrokenRow, LeadFile
from leads_pipeline.errors import ImportFileError

SHOWN_BROKEN_ROWS = 20


class RejectedFile:
    """Made with the first broken row, in the form of its input. Holds each row once, also when an import was killed.

    ``settled_bytes`` is how long it was when the import that is now resumed last committed. What stands behind that
    are rows that will be met again: they are passed over, not written twice.
    """

    def __init__(self, file: LeadFile, destination: Path, *, settled_bytes: int = 0) -> None:
        self._header = file.rejected_header
        self.destination = destination
        self._settled_bytes = settled_bytes
        self._out: BinaryIO | None = None
        self._ahead = b""  # what the killed import wrote beyond its last commit
        self._is_dirty = False
        self.count = 0
        self.first: list[tuple[int, str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._out is not None:
            self._out.close()

    def add(self, row: BrokenRow) -> None:
        """Keep one row.

        Raises:
            ImportFileError: the file cannot be written.
        """
        self.count += 1
        if len(self.first) < SHOWN_BROKEN_ROWS:
            self.first.append((row.line, row.reason))
        raw = row.raw if row.raw.endswith(b"\n") else row.raw + b"\n"
        try:
            out = self._open() if self._out is None else self._out
            if self._ahead and raw.startswith(self._ahead[: len(raw)]):
                missing = raw[len(self._ahead) :]  # the kill may have cut the last row
                self._ahead = self._ahead[len(raw) :]
                out.write(missing)
            else:
                self._ahead = b""
                out.write(raw)
            self._is_dirty = True
        except OSError as error:
            raise ImportFileError(
                f"line {row.line} {row.reason}, and the error file {self.destination} cannot be written: "
                f"{error.strerror}. Name another with --rejected. Rows up to here may be stored; importing again "
                "stores nothing twice."
            ) from error

    def settle(self) -> int:
        """Have on disk what was added, and say how long the file now is: before the commit that counts these rows."""
        if self._out is None:
            return self._settled_bytes
        if self._is_dirty:
            self._out.flush()
            os.fsync(self._out.fileno())
            self._is_dirty = False
        return self._out.tell() - len(self._ahead)

    def _open(self) -> BinaryIO:
        self.destination.touch(mode=0o600)  # it holds people; a file that is there keeps its mode
        size = self.destination.stat().st_size
        if 0 < self._settled_bytes <= size:
            with self.destination.open("rb") as before:
                before.seek(self._settled_bytes)
                self._ahead = before.read()
            self._out = self.destination.open("ab")
        else:
            self._out = self.destination.open("wb")
            self._out.write(self._header)
        return self._out
