"""How far imports came, and which leads of a file are known: ``import_progress`` and a look at ``ingest_keys``."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from leads_pipeline.errors import ImportFileError
from leads_pipeline.storage.schema import import_progress


@dataclass(frozen=True, slots=True)
class ImportProgress:
    """What was settled of one file: ``position`` rows from its beginning, and what became of them."""

    file_sha256: str
    tenant: str
    source: str
    started_at: datetime
    position: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    rejected_bytes: int = 0
    finished_at: datetime | None = None

    def after(self, *, accepted: int, duplicates: int, rejected: int, rejected_bytes: int) -> "ImportProgress":
        """With the rows of one more commit."""
        return replace(
            self,
            position=self.position + accepted + duplicates + rejected,
            accepted=self.accepted + accepted,
            duplicates=self.duplicates + duplicates,
            rejected=self.rejected + rejected,
            rejected_bytes=rejected_bytes,
        )


def find_progress(connection: sa.Connection, *, file_sha256: str, tenant: str, source: str) -> ImportProgress | None:
    """What is known of a file, if an import of it was begun."""
    row = connection.execute(
        sa.select(import_progress).where(
            import_progress.c.file_sha256 == file_sha256,
            import_progress.c.tenant == tenant,
            import_progress.c.source == source,
        )
    ).one_or_none()
    if row is None:
        return None
    return ImportProgress(
        row.file_sha256, row.tenant, row.source, row.started_at, row.position, row.accepted, row.duplicates,
        row.rejected, row.rejected_bytes, row.finished_at,
    )  # fmt: skip


def begin_progress(connection: sa.Connection, progress: ImportProgress, *, now: datetime) -> None:
    """Note that a file is imported from its beginning, whatever was known of it. Of two at once the later counts."""
    values = {"started_at": progress.started_at, "updated_at": now, **_counts(progress)}
    statement = insert(import_progress).values(
        file_sha256=progress.file_sha256, tenant=progress.tenant, source=progress.source, **values
    )
    connection.execute(statement.on_conflict_do_update(index_elements=["file_sha256", "tenant", "source"], set_=values))


def advance_progress(
    connection: sa.Connection, before: ImportProgress, after: ImportProgress, *, now: datetime
) -> None:
    """Move on from what this import last knew; in the transaction that stores the rows.

    Raises:
        ImportFileError: somebody else has moved it. Two imports of one file cannot both count its rows: the update
            finds the row only as this one left it, and the second transaction is taken back.
    """
    moved = connection.execute(
        sa.update(import_progress)
        .where(
            import_progress.c.file_sha256 == before.file_sha256,
            import_progress.c.tenant == before.tenant,
            import_progress.c.source == before.source,
            import_progress.c.position == before.position,
            import_progress.c.started_at == before.started_at,
        )
        .values(updated_at=now, **_counts(after))
    )
    if moved.rowcount != 1:
        raise ImportFileError(
            "another import of the same file into the same source is under way; this one stopped and stored no row "
            "twice. Wait for the other one"
        )


def known_keys(connection: sa.Connection, keys: Sequence[bytes], *, tenant: str, source: str) -> set[bytes]:
    """Those of ``keys`` (SHA-256) whose lead came before."""
    rows = connection.exec_driver_sql(
        """
        select wanted.key_sha256 from unnest(%(keys)s::bytea[]) as wanted (key_sha256)
        where exists (
            select from ingest_keys where ingest_keys.tenant = %(tenant)s and ingest_keys.source = %(source)s
                and ingest_keys.key_sha256 = wanted.key_sha256
        )
        """,
        {"keys": list(keys), "tenant": tenant, "source": source},
    )
    return {bytes(row.key_sha256) for row in rows}


def _counts(progress: ImportProgress) -> dict[str, int | datetime | None]:
    return {
        "position": progress.position,
        "accepted": progress.accepted,
        "duplicates": progress.duplicates,
        "rejected": progress.rejected,
        "rejected_bytes": progress.rejected_bytes,
        "finished_at": progress.finished_at,
    }
