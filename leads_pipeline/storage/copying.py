"""Many rows into one table by COPY, in the caller's transaction: a third of the cost of a JSON array (13 and 40 µs).

For tables that nobody else writes the same rows to: COPY knows no ``on conflict``.
"""

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from leads_pipeline.storage.database import copy_text

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def copy_rows(connection: sa.Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Insert ``rows`` of values in the order of ``columns``. Values go by ``str``; arrays and JSON must be text."""
    lines = ["\t".join([_text(value) for value in row]) for row in rows]
    if lines:
        lines.append("")
        copy_text(connection, f"copy {table} ({', '.join(columns)}) from stdin", "\n".join(lines).encode())


def _text(value: object) -> str:
    if value is None:
        return "\\N"
    return value.translate(_ESCAPES) if isinstance(value, str) else str(value)


def escaped(text: str) -> str:
    """``text`` as it stands in a line of COPY."""
    return text.translate(_ESCAPES)
