"""CSV and TSV: the dialect is found out, and a broken row costs only itself.

A row is broken if its quotes do not close or if it has another number of cells than the header. An unclosed quote would
swallow the rows behind it; so when a record of several lines does not read, its first line alone is broken and reading
goes on with the second.

Python's reader runs over the whole file as long as the rows are what the header promises; where one is not, its lines
are given back and looked at one by one.
"""

import csv
import io
import re
from collections import deque
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import BinaryIO

from leads_pipeline.buffer.files.content import Content, OpenContent
from leads_pipeline.buffer.files.encodings import encoding_of, named_encoding
from leads_pipeline.buffer.files.rows import BrokenRow, FileRow, Row, TextRow
from leads_pipeline.errors import ImportFileError

_DELIMITERS = (",", ";", "\t", "|")
_SAMPLE_LINES = 50
# An unclosed quote is looked for in so many lines; a message with more line breaks is not a lead's.
_MAX_RECORD_LINES = 200
# A line beyond this is a binary file or a row of somebody's mistake; it must not fill the memory.
MAX_LINE_LETTERS = 4 * 1024 * 1024
_ACCENTED_SAMPLES = 3
_SAMPLE_ROWS = 20_000
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_LOST = re.compile("[\udc80-\udcff\ufffd]")


class CsvFile:
    """A text file whose first line names the columns."""

    kind = "CSV"
    rejected_suffix = "csv"

    def __init__(self, content: Content, *, encoding: str | None = None, delimiter: str | None = None) -> None:
        self.content = content
        self.encoding = named_encoding(encoding) if encoding else encoding_of(content)
        self._lost = _NOT_UTF8 if self.encoding.name.startswith("utf-8") else _LOST
        self._opened: OpenContent | None = None
        with content.open() as opened:
            lines = [line for line in islice(self._lines(opened.stream), _SAMPLE_LINES) if line.strip()]
        if not lines:
            raise ImportFileError(f"{content.name} is empty")
        self.delimiter = delimiter or _delimiter(lines)
        header = self._cells(lines[0])
        if isinstance(header, str):
            raise ImportFileError(f"{content.name}: the first line does not read as column names: it {header}")
        if self._lost.search(lines[0]):
            raise ImportFileError(
                f"{content.name}: the column names are not {self.encoding.name} text; name the encoding with --encoding"
            )
        self.columns = header_names(content.name, header)
        self.rejected_header = _to_bytes(lines[0].rstrip("\r\n") + "\n")

    @property
    def total(self) -> int:
        return self.content.size

    @property
    def position(self) -> int:
        return 0 if self._opened is None else self._opened.position

    @property
    def reading(self) -> str:
        return f"{self.encoding.name} {self.delimiter!r}"

    @property
    def notes(self) -> tuple[str, ...]:
        samples = self._accented_samples()
        looks = f"letters to look at: {', '.join(samples)}" if samples else ""
        if not self.encoding.why:
            return (looks,) if looks else ()
        return tuple(note for note in (f"{self.encoding.why}. --encoding NAME sets another.", looks) if note)

    def rows(self) -> Iterator[Row | BrokenRow]:
        with self.content.open() as opened:
            self._opened = opened
            yield from self._rows(opened.stream)

    def rejected(self, row: Row, reason: str) -> bytes:
        assert isinstance(row, TextRow)
        return _to_bytes(row.record)

    def _rows(self, stream: BinaryIO) -> Iterator[Row | BrokenRow]:
        feed = _Feed(self._lines(stream))
        number = 1
        for line in feed:
            number += 1
            if line.strip():
                break  # the header
        width = len(self.columns)
        sound_header = all("\x00" not in name for name in self.columns)
        is_lost = self._lost.search
        while True:
            taken = feed.begin()
            try:
                for cells in csv.reader(feed, delimiter=self.delimiter, strict=True):
                    record = taken[0] if len(taken) == 1 else "".join(taken)
                    if len(cells) != width or len(taken) > _MAX_RECORD_LINES or not (cells[0] or record.strip()):
                        break
                    if not record.isascii() and is_lost(record):
                        break
                    yield TextRow(number, cells, record, sound_header and "\x00" not in record)
                    number += len(taken)
                    taken = feed.begin()
                else:
                    if not taken:
                        return
            except csv.Error:
                pass
            feed.give_back(taken)
            if (row := self._one(feed, number)) is None:
                number += 1  # a blank line
            else:
                yield row
                number += len(feed.taken)

    def _one(self, feed: "_Feed", number: int) -> TextRow | BrokenRow | None:
        """The record that begins with the next line, judged by itself. ``feed.taken`` are then its lines."""
        taken = feed.begin()
        record = next(feed)
        if not record.strip():
            return None
        if len(record) >= MAX_LINE_LETTERS:
            return BrokenRow(
                number, f"is longer than {MAX_LINE_LETTERS:,} letters; its beginning is kept", _to_bytes(record)
            )
        cells = self._cells(record)
        quotes = record.count('"')
        while isinstance(cells, str) and quotes % 2 and len(taken) < _MAX_RECORD_LINES:
            further = next(feed, None)
            if further is None:
                break
            record += further
            quotes += further.count('"')
            if quotes % 2 == 0:
                cells = self._cells(record)
        reason = cells if isinstance(cells, str) else None
        if not isinstance(cells, str) and len(cells) != len(self.columns):
            reason = f"has {len(cells)} cells, the header has {len(self.columns)}"
        elif self._lost.search(record):
            reason = f"is not {'UTF-8' if self.encoding.name.startswith('utf-8') else self.encoding.name} text"
        if reason is None:
            assert not isinstance(cells, str)
            return TextRow(number, cells, record, is_sound=False)
        feed.give_back(taken[1:])
        del taken[1:]
        return BrokenRow(number, reason, _to_bytes(taken[0]))

    def _cells(self, record: str) -> list[str] | str:
        """The cells of one record, or why it has none."""
        try:
            found = list(csv.reader([record], delimiter=self.delimiter, strict=True))
        except csv.Error as error:
            if "field limit" in str(error):
                return f"has a cell longer than {csv.field_size_limit():,} letters"
            return "has a quote that is opened and not closed, or closed in the middle of a cell"
        return found[0] if len(found) == 1 else "has a quote that is opened and not closed"

    def _lines(self, stream: BinaryIO) -> Iterator[str]:
        # Bytes that are not of the encoding pass through as lone surrogates: their row is refused, and kept byte by
        # byte. UTF-16 has no such way; there U+FFFD marks the row.
        errors = "replace" if self.encoding.name.startswith(("utf-16", "utf_16")) else "surrogateescape"
        try:
            text = io.TextIOWrapper(stream, encoding=self.encoding.name, errors=errors, newline="")
            for line in iter(partial(text.readline, MAX_LINE_LETTERS), ""):
                yield line
                if len(line) == MAX_LINE_LETTERS and not line.endswith(("\n", "\r")):
                    while (rest := text.readline(MAX_LINE_LETTERS)) and not rest.endswith(("\n", "\r")):
                        pass
        except UnicodeError as error:  # of codecs whose states cannot be escaped from
            raise ImportFileError(
                f"{self.content.name} is not {self.encoding.name} text; name another encoding with --encoding"
            ) from error

    def _accented_samples(self) -> list[str]:
        found: dict[str, None] = {}
        with self.content.open() as opened:
            for row in islice(self._rows(opened.stream), _SAMPLE_ROWS):
                if isinstance(row, TextRow) and not row.record.isascii():
                    words = (cell.strip() for cell in row.cells if not cell.isascii())
                    found.update(dict.fromkeys(word[:40] for word in words if any(map(str.isalpha, word))))
                    if len(found) >= _ACCENTED_SAMPLES:
                        break
        return list(found)[:_ACCENTED_SAMPLES]


class _Feed:
    """Lines one by one; ``taken`` are those of the present record, which can be given back."""

    __slots__ = ("_back", "_lines", "taken")

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._back: deque[str] = deque()
        self.taken: list[str] = []

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        line = self._back.popleft() if self._back else next(self._lines)
        self.taken.append(line)
        return line

    def begin(self) -> list[str]:
        """Begin a record: its lines are put into the list that this gives."""
        self.taken = []
        return self.taken

    def give_back(self, lines: list[str]) -> None:
        self._back.extendleft(reversed(lines))


def header_names(name: str, header: list[str]) -> tuple[str, ...]:
    """The columns' names, each different.

    Raises:
        ImportFileError: the line looks like a lead.
    """
    if any("@" in cell for cell in header) or all(_is_number(cell) for cell in header):
        raise ImportFileError(
            f"{name}: the first line looks like a row, not like column names; put a line with the names above it"
        )
    names: list[str] = []
    for position, cell in enumerate(header, start=1):
        column = cell.strip() or f"column_{position}"
        names.append(column if column not in names else f"{column} ({position})")
    return tuple(names)


def values_of(row: Row, columns: tuple[str, ...]) -> dict[str, object]:
    """A row by its columns, without its empty cells."""
    if isinstance(row, FileRow):
        return row.values
    return {name: cell for name, cell in zip(columns, row.cells, strict=True) if cell}


def _is_number(cell: str) -> bool:
    return cell.strip().replace(".", "", 1).isdigit()


def _delimiter(lines: list[str]) -> str:
    """The one that cuts the header into most cells and the rows into as many."""

    def score(delimiter: str) -> tuple[int, int]:
        widths = []
        for line in lines:
            try:
                widths.append(len(next(csv.reader([line], delimiter=delimiter))))
            except (csv.Error, StopIteration):
                widths.append(0)
        return (sum(width == widths[0] for width in widths) if widths[0] > 1 else 0, widths[0])

    return max(_DELIMITERS, key=score)


def _to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
