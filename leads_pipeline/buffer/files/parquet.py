"""Parquet, read through DuckDB a few rows at a time."""

import re
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from leads_pipeline.buffer.files.content import Content
from leads_pipeline.buffer.files.ndjson import rejected_json
from leads_pipeline.buffer.files.rows import BrokenRow, FileRow, Row
from leads_pipeline.buffer.files.unpacking import unpacked
from leads_pipeline.errors import ImportFileError

_ROWS_AT_ONCE = 1_000


class ParquetFile:
    """A Parquet file; its positions and lines are row numbers."""

    kind = "Parquet"
    rejected_suffix = "ndjson"
    rejected_header = b""
    reading = ""
    notes: tuple[str, ...] = ()

    def __init__(self, content: Content) -> None:
        import duckdb  # noqa: PLC0415 - a second of start-up, for those who import Parquet

        self.content = content
        self.position = 0
        self._path, self._spool = unpacked(content)
        try:
            with duckdb.connect() as connection:
                relation = connection.execute("select * from read_parquet(?) limit 0", [_literal(self._path)])
                self.columns = tuple(column[0] for column in relation.description or ())
                counted = connection.execute("select count(*) from read_parquet(?)", [_literal(self._path)]).fetchone()
        except duckdb.Error as error:
            reason = str(error).splitlines()[0].replace(_literal(self._path), content.name)
            raise ImportFileError(f"{content.name} cannot be read as Parquet: {reason}") from error
        self.total = int(counted[0]) if counted else 0

    def rows(self) -> Iterator[Row | BrokenRow]:
        import duckdb  # noqa: PLC0415

        self.position = 0
        try:
            with duckdb.connect(config={"threads": 1}) as connection:
                result = connection.execute("select * from read_parquet(?)", [_literal(self._path)])
                while batch := result.fetchmany(_ROWS_AT_ONCE):
                    for cells in batch:
                        self.position += 1
                        values = {
                            name: _plain(cell)
                            for name, cell in zip(self.columns, cells, strict=True)
                            if cell is not None
                        }
                        yield FileRow(self.position, values)
        except duckdb.Error as error:
            raise ImportFileError(
                f"{self.content.name} cannot be read on behind row {self.position:,}: {type(error).__name__}"
            ) from error

    def rejected(self, row: Row, reason: str) -> bytes:
        assert isinstance(row, FileRow)
        return rejected_json(row.values, reason)


def _literal(path: Path) -> str:
    """The path for DuckDB, which would take ``people[1].parquet`` for a pattern and read ``people1.parquet``."""
    return re.sub(r"([*?[])", r"[\1]", str(path))


def _plain(cell: Any) -> Any:
    """A cell as JSON has it: times as ISO 8601, exact decimals as text."""
    if isinstance(cell, str | bool | int):
        return cell
    if isinstance(cell, float):
        return None if cell != cell else cell  # noqa: PLR0124 - NaN is how data frames write an empty cell
    if isinstance(cell, datetime | date | time):
        return cell.isoformat()
    if isinstance(cell, Decimal | UUID | timedelta):
        return str(cell)
    if isinstance(cell, bytes):
        return cell.hex()
    if isinstance(cell, dict):
        return {str(key): _plain(item) for key, item in cell.items()}
    return [_plain(item) for item in cell] if isinstance(cell, list | tuple) else str(cell)
