"""Parquet, read through DuckDB a few rows at a time."""

import json
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from leads_pipeline.buffer.files.rows import BrokenRow, FileRow
from leads_pipeline.errors import ImportFileError

_ROWS_AT_ONCE = 1_000


class ParquetFile:
    """A Parquet file; its positions and lines are row numbers."""

    kind = "Parquet"
    rejected_suffix = "ndjson"
    rejected_header = b""

    def __init__(self, path: Path) -> None:
        import duckdb  # noqa: PLC0415 - a second of start-up, for those who import Parquet

        self._path = path
        try:
            with duckdb.connect() as connection:
                relation = connection.execute("select * from read_parquet(?) limit 0", [str(path)])
                self.columns = tuple(column[0] for column in relation.description or ())
                counted = connection.execute("select count(*) from read_parquet(?)", [str(path)]).fetchone()
        except duckdb.Error as error:
            raise ImportFileError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from error
        self.total = int(counted[0]) if counted else 0

    def rows(self) -> Iterator[FileRow | BrokenRow]:
        import duckdb  # noqa: PLC0415

        with duckdb.connect(config={"threads": 1}) as connection:
            result = connection.execute("select * from read_parquet(?)", [str(self._path)])
            number = 0
            while batch := result.fetchmany(_ROWS_AT_ONCE):
                for cells in batch:
                    number += 1
                    values = {
                        name: _plain(cell) for name, cell in zip(self.columns, cells, strict=True) if cell is not None
                    }
                    yield FileRow(number, values, json.dumps(values).encode() + b"\n", number)


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
