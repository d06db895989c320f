"""What every kind of file yields."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class FileRow:
    """One row. ``line`` is where it begins, from 1 (of Parquet: the row's number); ``raw`` is its own text."""

    line: int
    values: dict[str, Any]
    raw: bytes
    position: int  # how far into the file: bytes, or rows of Parquet


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A row that cannot be read, its text, and why; the reason does not quote it."""

    line: int
    reason: str
    raw: bytes
    position: int


class LeadFile(Protocol):
    """A file that was found readable."""

    kind: str
    total: int  # where ``position`` ends
    rejected_suffix: str  # csv or ndjson: the form in which its broken rows are kept
    rejected_header: bytes  # the first line of that

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of its columns; asking may read the whole file."""
        ...

    def rows(self) -> Iterator[FileRow | BrokenRow]:
        """Every row from the beginning, a few at a time in memory."""
        ...
