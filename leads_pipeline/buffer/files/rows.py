"""What every kind of file yields."""

from collections.abc import Iterator
from typing import Any, Protocol

import msgspec

from leads_pipeline.buffer.files.content import Content


class FileRow(msgspec.Struct, frozen=True, gc=False):
    """One row of named values. ``line`` is where it begins, from 1 (without lines: the row's number)."""

    line: int
    values: dict[str, Any]


class TextRow(msgspec.Struct, frozen=True, gc=False):
    """One row of text cells, as many as there are columns; ``record`` is its own text.

    ``is_sound``: every cell can be stored as it is. Of others somebody has to find out.
    """

    line: int
    cells: list[str]
    record: str
    is_sound: bool


class BrokenRow(msgspec.Struct, frozen=True, gc=False):
    """A row that cannot be taken, and why; the reason does not quote it. ``raw`` is how it stands in an error file."""

    line: int
    reason: str
    raw: bytes


Row = FileRow | TextRow


class LeadFile(Protocol):
    """A file that was found readable."""

    kind: str
    content: Content
    rejected_suffix: str  # csv or ndjson: the form of its error file
    rejected_header: bytes  # the first line of that

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of its columns; asking may read the whole file."""
        ...

    @property
    def total(self) -> int:
        """Where ``position`` ends."""
        ...

    @property
    def position(self) -> int:
        """How far ``rows`` has come: bytes of the file as it lies there, or rows."""
        ...

    @property
    def reading(self) -> str:
        """What else decides how a row reads: its encoding, its sheet. The same file read in another way is another."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed about the file, in sentences for people."""
        ...

    def rows(self) -> Iterator[Row | BrokenRow]:
        """Every row from the beginning, a few at a time in memory. One reader at a time."""
        ...

    def rejected(self, row: Row, reason: str) -> bytes:
        """The line of an error file for a row that was read and then refused."""
        ...
