"""Workbooks (xlsx, xls, xlsb, ods), read through calamine: one sheet, of which the first row names the columns.

A workbook knows numbers and dates, not how they looked: 43123456789 stays a whole number, a date becomes ISO 8601. A
leading zero that the sheet only displayed is not in the file; a column of text keeps it.
"""

import csv
import io
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta

import python_calamine as calamine

from leads_pipeline.buffer.files.content import Content
from leads_pipeline.buffer.files.csv_text import header_names
from leads_pipeline.buffer.files.rows import BrokenRow, FileRow, Row
from leads_pipeline.buffer.files.unpacking import unpacked
from leads_pipeline.buffer.files.workbook_extent import MAX_CELLS, is_too_vast
from leads_pipeline.domain.import_mapping import REJECTED_BECAUSE
from leads_pipeline.errors import ImportFileError

# Beyond it a double does not tell neighbouring whole numbers apart.
_EXACT = 2**53

Cell = str | int | float | bool | date | datetime | time | timedelta


class WorkbookFile:
    """One sheet of a workbook; its lines are the sheet's row numbers. All of the sheet is in memory."""

    kind = "workbook"
    rejected_suffix = "csv"

    def __init__(self, content: Content, *, sheet: str | None = None) -> None:
        self.content = content
        self.position = 0
        path, _spool = unpacked(content)
        if is_too_vast(path):
            raise ImportFileError(
                f"{content.name} spans more than {MAX_CELLS:,} cells, most of them surely empty: delete what lies far "
                "below or beside the rows, or save the sheet as CSV UTF-8"
            )
        try:
            with path.open("rb") as file:
                workbook = calamine.load_workbook(file)
        except calamine.PasswordError as error:
            raise ImportFileError(f"{content.name} is protected by a password; save it without one") from error
        except (calamine.CalamineError, OSError) as error:
            raise ImportFileError(
                f"{content.name} cannot be read as a workbook; save the sheet as CSV UTF-8"
            ) from error
        self._name = _sheet_name(content.name, workbook, sheet)
        self._others = [name for name in workbook.sheet_names if name != self._name]
        self._sheet = _sheet(content.name, workbook, self._name)
        self.total = self._sheet.total_height
        found = next(self._numbered(), None)
        if found is None:
            raise ImportFileError(f"{content.name}: the sheet {self._name!r} is empty{_having(self._others)}")
        self._header_number, header = found
        while header and header[-1] == "":
            header.pop()
        self.columns = header_names(content.name, [_text(cell) for cell in header])
        self.rejected_header = _csv_line([*self.columns, REJECTED_BECAUSE])

    @property
    def reading(self) -> str:
        return self._name

    @property
    def notes(self) -> tuple[str, ...]:
        others = f"; not read: {', '.join(self._others)}. --sheet NAME reads another" if self._others else ""
        return (f"sheet: {self._name}{others}",)

    def rows(self) -> Iterator[Row | BrokenRow]:
        width = len(self.columns)
        for number, cells in self._numbered():
            if number <= self._header_number:
                continue
            self.position = number
            if any(cell != "" for cell in cells[width:]):
                raw = _csv_line([*map(_text, cells), f"has a cell to the right of the {width} columns"])
                yield BrokenRow(number, f"has a cell to the right of the {width} columns that have a name", raw)
                continue
            values = {name: _value(cell) for name, cell in zip(self.columns, cells[:width], strict=False) if cell != ""}
            yield FileRow(number, values)
        self.position = self.total

    def rejected(self, row: Row, reason: str) -> bytes:
        assert isinstance(row, FileRow)
        return _csv_line([*(_text(row.values.get(name, "")) for name in self.columns), reason])

    def _numbered(self) -> Iterator[tuple[int, list[Cell]]]:
        """The rows that are not empty, with their numbers in the sheet."""
        start = self._sheet.start
        if start is None:
            return
        # iter_rows begins at the top of the sheet, whether the first rows are empty or not.
        for number, cells in enumerate(self._sheet.iter_rows(), start=1):
            if any(cell != "" for cell in cells):
                yield number, cells


def _sheet_name(name: str, workbook: calamine.CalamineWorkbook, wanted: str | None) -> str:
    names = workbook.sheet_names
    if wanted is None:
        for candidate in names:
            try:
                if workbook.get_sheet_by_name(candidate).total_height > 0:
                    return candidate
            except calamine.CalamineError:
                continue  # a sheet of charts
        raise ImportFileError(f"{name}: no sheet has a row")
    if wanted in names:
        return wanted
    if wanted.isdigit() and 1 <= int(wanted) <= len(names):
        return names[int(wanted) - 1]
    raise ImportFileError(f"{name} has no sheet {wanted!r}; it has: {', '.join(names)} (or 1 to {len(names)})")


def _sheet(name: str, workbook: calamine.CalamineWorkbook, sheet: str) -> calamine.CalamineSheet:
    try:
        return workbook.get_sheet_by_name(sheet)
    except calamine.CalamineError as error:
        raise ImportFileError(f"{name}: the sheet {sheet!r} cannot be read: it holds no cells") from error


def _having(others: list[str]) -> str:
    return f"; the workbook also has: {', '.join(others)}" if others else ""


def _value(cell: Cell) -> str | int | float | bool:
    """A cell as JSON has it."""
    if isinstance(cell, float):
        return int(cell) if cell.is_integer() and abs(cell) < _EXACT else cell
    if isinstance(cell, datetime):
        return cell.date().isoformat() if cell.time() == time.min else cell.isoformat()
    if isinstance(cell, date | time):
        return cell.isoformat()
    return str(cell) if isinstance(cell, timedelta) else cell


def _text(cell: Cell) -> str:
    value = _value(cell)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _csv_line(cells: list[str]) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue().encode("utf-8", "replace")
