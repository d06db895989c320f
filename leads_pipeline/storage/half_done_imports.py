"""Imports that stopped before their file's end and that nobody has gone on with: the file is where it was left.

Only whoever has the file can resume it, so this only finds them. Keep out: how an import goes on (``import_progress``).
"""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from leads_pipeline.storage.schema import import_progress

_MOST = 100


@dataclass(frozen=True, slots=True)
class HalfDoneImport:
    """An import that stopped: how many rows were settled, and when it last moved."""

    tenant: str
    source: str
    file_sha256: str
    position: int
    moved_at: datetime


def half_done_imports(connection: sa.Connection, *, moved_before: datetime) -> list[HalfDoneImport]:
    """Unfinished imports that have not moved since an instant, the oldest first; at most a hundred."""
    progress = import_progress.c
    statement = (
        sa.select(
            progress.tenant, progress.source, progress.file_sha256, progress.position,
            progress.updated_at.label("moved_at"),
        )
        .where(progress.finished_at.is_(None), progress.updated_at < moved_before)
        .order_by(progress.updated_at)
        .limit(_MOST)
    )  # fmt: skip
    return [HalfDoneImport(**row) for row in connection.execute(statement).mappings()]
