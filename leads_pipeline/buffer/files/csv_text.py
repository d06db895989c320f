"""CSV: the dialect is found out, and a broken row costs only itself.

A row is broken if its quotes do not close or if it has another number of cells than the header. An unclosed quote would
swallow the rows behind it; so when a record of several lines does not read, its first line alone is broken and reading
goes on with the second.
"""

import csv
import io
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from leads_pipeline.buffer.files.rows import BrokenRow, FileRow
from leads_pipeline.errors import ImportFileError

_DELIMITERS = (",", ";", "\t", "|")
_SAMPLE_BYTES = 1024 * 1024
_SAMPLE_LINES = 50
# An unclosed quote is looked for in so many lines; a message with more line breaks is not a lead's.
_MAX_RECORD_LINES = 200


class CsvFile:
    """A CSV file in UTF-8 (or UTF-16 with its byte order mark) whose first line names the columns."""

    kind = "CSV"
    rejected_suffix = "csv"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._encoding = _encoding(path)
        self.total = path.stat().st_size
        with path.open("rb") as file:
            lines = [line for line in islice(self._text(file), _SAMPLE_LINES) if line.strip()]
        if not lines:
            raise ImportFileError(f"{path} is empty")
        self.delimiter = _delimiter(lines)
        header = self._cells(lines[0])
        if header is None:
            raise ImportFileError(f"{path}: the first line does not read as column names: its quotes do not close")
        if any("@" in cell for cell in header) or all(_is_number(cell) for cell in header):
            raise ImportFileError(
                f"{path}: the first line looks like a row, not like column names; put a line with the names above it"
            )
        self.columns = _distinct(header)
        self.rejected_header = _to_bytes(lines[0].rstrip("\r\n") + "\n")

    def rows(self) -> Iterator[FileRow | BrokenRow]:
        with self._path.open("rb") as file:
            lines = enumerate(self._text(file), start=1)
            for _number, line in lines:
                if line.strip():
                    break  # the header
            ahead: deque[tuple[int, str]] = deque()
            while True:
                first = ahead.popleft() if ahead else next(lines, None)
                if first is None:
                    return
                if not first[1].strip():
                    continue
                taken = [first]
                read = self._read(taken, lines, ahead)
                ahead.extendleft(reversed(taken[1:]))
                raw = _to_bytes(first[1] if isinstance(read, str) else read[1])
                position = file.tell()
                if isinstance(read, str):
                    yield BrokenRow(first[0], read, raw, position)
                else:
                    values = {name: cell for name, cell in zip(self.columns, read[0], strict=True) if cell}
                    yield FileRow(first[0], values, raw, position)

    def _read(
        self,
        taken: list[tuple[int, str]],
        lines: Iterator[tuple[int, str]],
        ahead: deque[tuple[int, str]],
    ) -> tuple[list[str], str] | str:
        """The cells and the text of the record that begins with ``taken[0]``, or why there is none.

        Leaves in ``taken`` behind the first line what was looked at and not used.
        """
        record = taken[0][1]
        cells = self._cells(record)
        quotes = record.count('"')
        while cells is None and quotes % 2 and len(taken) < _MAX_RECORD_LINES:
            further = ahead.popleft() if ahead else next(lines, None)
            if further is None:
                break
            taken.append(further)
            record += further[1]
            quotes += further[1].count('"')
            if quotes % 2 == 0:
                cells = self._cells(record)
        if cells is None:
            return "a quote is opened and not closed, or closed in the middle of a cell"
        if len(cells) != len(self.columns):
            return f"has {len(cells)} cells, the header has {len(self.columns)}"
        if not record.isascii() and any("\udc80" <= letter <= "\udcff" for letter in record):
            return "is not UTF-8 text"
        del taken[1:]
        return cells, record

    def _cells(self, record: str) -> list[str] | None:
        try:
            found = list(csv.reader([record], delimiter=self.delimiter, strict=True))
        except csv.Error:
            return None
        return found[0] if len(found) == 1 else None

    def _text(self, file: BinaryIO) -> io.TextIOWrapper:
        # Bytes that are not UTF-8 pass through as lone surrogates: their row is refused, and kept byte by byte.
        errors = "surrogateescape" if self._encoding.startswith("utf-8") else "replace"
        return io.TextIOWrapper(file, encoding=self._encoding, errors=errors, newline="")


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        sample = file.read(_SAMPLE_BYTES)
    if sample.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if sample.startswith(b"\xef\xbb\xbf"):
        return "utf-8-sig"
    lines = sample.split(b"\n")[:-1] or [sample]
    accented = [line for line in lines if not line.isascii()]
    unreadable = [line for line in accented if not _is_utf8(line)]
    # One bad row among good ones is a broken row; a header, or most rows, is a file in another encoding.
    if not _is_utf8(lines[0]) or (len(unreadable) > 1 and 2 * len(unreadable) > len(accented)):
        number = next(at for at, line in enumerate(lines, start=1) if not _is_utf8(line))
        raise ImportFileError(
            f"{path} is not UTF-8 text (line {number}). If it comes from Excel or an older system, convert it first, "
            f"for example: iconv -f WINDOWS-1252 -t UTF-8 {path.name} > utf8-{path.name}"
        )
    return "utf-8"


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


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


def _distinct(header: list[str]) -> tuple[str, ...]:
    names: list[str] = []
    for position, cell in enumerate(header, start=1):
        name = cell.strip() or f"column_{position}"
        names.append(name if name not in names else f"{name} ({position})")
    return tuple(names)


def _to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
