"""A file into the buffer, as if each of its rows had been posted.

A row's content is its key: importing a file again stores nothing twice, and an import that broke off is simply run
again. A row that cannot be read is kept in an error file; the others go on.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Self

import sqlalchemy as sa
import yaml

from leads_pipeline.buffer.files.ndjson import describe
from leads_pipeline.buffer.files.opening import open_lead_file
from leads_pipeline.buffer.files.rows import BrokenRow, LeadFile
from leads_pipeline.buffer.port import NewLead, PostResult, content_key
from leads_pipeline.buffer.postgresql import PostgresBuffer
from leads_pipeline.clock import Clock
from leads_pipeline.config import Settings
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.import_mapping import ColumnMapping, map_columns
from leads_pipeline.domain.posted_lead import PostedLead, Unreadable, read_lead
from leads_pipeline.domain.stage import Lane
from leads_pipeline.errors import ImportFileError, NotFound

# Rows of one commit: large enough that the commit costs little beside them.
COMMIT_ROWS = 1_000
SHOWN_BROKEN_ROWS = 20

Progress = Callable[[int, int], None]


def _silently(_done: int, _total: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class ReadLead:
    """One row, read as a lead."""

    line: int
    payload: dict[str, Any]
    consent: list[Any]
    raw: bytes = field(repr=False)
    position: int = 0


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """What an import did: ``rows`` = ``accepted`` + ``duplicates`` + ``rejected``, but that a check accepts nothing.

    ``broken`` names the first rejected rows by line and reason; all of them are in ``rejected_file``.
    """

    rows: int
    accepted: int
    duplicates: int
    rejected: int
    broken: tuple[tuple[int, str], ...]
    rejected_file: Path | None


def mapping_of(path: Path, own: Mapping[str, str | None] | None = None) -> ColumnMapping:
    """How a file's columns are understood.

    Raises:
        ImportFileError: the file cannot be read, or ``own`` does not fit its columns.
    """
    return map_columns(open_lead_file(path).columns, own)


def read_map_file(path: Path) -> dict[str, str | None]:
    """A person's own mapping from a YAML file ``{column: field or null}``.

    Raises:
        ImportFileError: the file cannot be read as that.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ImportFileError(f"cannot read the column map {path}: {type(error).__name__}: {error}") from error
    if not isinstance(document, dict) or not all(isinstance(item, str | None) for item in document.values()):
        raise ImportFileError(f"the column map {path} must hold one line 'column: field' (or 'column: null') a column")
    return {str(column): target for column, target in document.items()}


def read_leads(
    path: Path, mapping: ColumnMapping, *, on_broken: Callable[[BrokenRow], None] | None = None
) -> Iterator[ReadLead]:
    """The leads of a file, one by one, in its order. Rows that cannot be read go to ``on_broken`` or are left out."""
    for row in _leads(open_lead_file(path), mapping):
        if isinstance(row, ReadLead):
            yield row
        elif on_broken is not None:
            on_broken(row)


def import_file(
    engine: sa.Engine,
    path: Path,
    *,
    settings: Settings,
    tenant: str,
    source: str,
    clock: Clock,
    mapping: ColumnMapping | None = None,
    rejected_file: Path | None = None,
    on_progress: Progress = _silently,
) -> ImportSummary:
    """Put a file's leads into the buffer of a source, ``COMMIT_ROWS`` a commit.

    ``on_progress`` is told how far into the file the import is, and how long the file is.

    Raises:
        ImportFileError: the file cannot be read as leads at all, or the error file cannot be written.
        NotFound: the tenant or the source is not configured.
        DatabaseUnavailable: run it again later; what was stored is recognised.
    """
    source_settings = settings.source(tenant, source)
    if source_settings is None:
        raise NotFound(f"{settings.path} has no source {source!r} of a tenant {tenant!r}")
    file = open_lead_file(path)
    destination = rejected_file or path.with_name(f"{path.name}.rejected.{file.rejected_suffix}")
    if destination.resolve() == path.resolve():
        raise ImportFileError(f"{path} cannot be its own error file; name another with --rejected")
    buffer = PostgresBuffer(engine)
    results: Counter[PostResult] = Counter()
    with _Rejects(file, destination) as rejects:
        leads = _readable(file, mapping or map_columns(file.columns), rejects, on_progress)
        while group := list(islice(leads, COMMIT_ROWS)):
            now = clock.now()
            new = [
                _new_lead(row, tenant=tenant, source=source, lane=Lane(source_settings.lane), now=now) for row in group
            ]
            for row, posted in zip(group, buffer.append(new, now=now), strict=True):
                results[posted.result] += 1
                if posted.result is PostResult.UNSTORABLE:
                    rejects.add(
                        BrokenRow(row.line, "holds a value that the database cannot keep", row.raw, row.position)
                    )
    accepted = results[PostResult.ACCEPTED]
    duplicates = results[PostResult.DUPLICATE]
    return ImportSummary(
        rows=accepted + duplicates + rejects.count,
        accepted=accepted,
        duplicates=duplicates,
        rejected=rejects.count,
        broken=tuple(rejects.first),
        rejected_file=destination if rejects.count else None,
    )


def check_file(path: Path, *, mapping: ColumnMapping | None = None, on_progress: Progress = _silently) -> ImportSummary:
    """Read a whole file as ``import_file`` would, and write nothing: neither to a database nor beside the file.

    Raises:
        ImportFileError: the file cannot be read as leads at all.
    """
    file = open_lead_file(path)
    with _Rejects(file, destination=None) as rejects:
        readable = sum(1 for _lead in _readable(file, mapping or map_columns(file.columns), rejects, on_progress))
    return ImportSummary(
        rows=readable + rejects.count,
        accepted=0,
        duplicates=0,
        rejected=rejects.count,
        broken=tuple(rejects.first),
        rejected_file=None,
    )


class _Rejects:
    """The error file. Made with the first broken row, in the form of its input: mend it there and import it."""

    def __init__(self, file: LeadFile, destination: Path | None) -> None:
        self._header = file.rejected_header
        self._destination = destination
        self._out: BinaryIO | None = None
        self.count = 0
        self.first: list[tuple[int, str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._out is not None:
            self._out.close()

    def add(self, row: BrokenRow) -> None:
        self.count += 1
        if len(self.first) < SHOWN_BROKEN_ROWS:
            self.first.append((row.line, row.reason))
        if self._destination is None:
            return
        if self._out is None:
            try:
                self._destination.touch(mode=0o600)  # it holds people; a file that is there keeps its mode
                self._out = self._destination.open("wb")
            except OSError as error:
                raise ImportFileError(
                    f"line {row.line} {row.reason}, and the error file {self._destination} cannot be written: "
                    f"{error.strerror}. Name another with --rejected. Rows up to here may be stored; importing again "
                    "stores nothing twice."
                ) from error
            self._out.write(self._header)
        self._out.write(row.raw if row.raw.endswith(b"\n") else row.raw + b"\n")


def _leads(file: LeadFile, mapping: ColumnMapping) -> Iterator[ReadLead | BrokenRow]:
    for row in file.rows():
        if isinstance(row, BrokenRow):
            yield row
            continue
        lead = read_lead(mapping.apply(row.values))
        if isinstance(lead, Unreadable):
            yield BrokenRow(row.line, describe(lead), row.raw, row.position)
        else:
            yield ReadLead(row.line, lead.payload, lead.consent, row.raw, row.position)


def _readable(file: LeadFile, mapping: ColumnMapping, rejects: _Rejects, on_progress: Progress) -> Iterator[ReadLead]:
    for number, row in enumerate(_leads(file, mapping), start=1):
        if isinstance(row, BrokenRow):
            rejects.add(row)
        else:
            yield row
        if number % COMMIT_ROWS == 0:
            on_progress(row.position, file.total)
    on_progress(file.total, file.total)


def _new_lead(row: ReadLead, *, tenant: str, source: str, lane: Lane, now: datetime) -> NewLead:
    lead = PostedLead(row.payload, row.consent)
    key_hex, body_hex = content_key(lead)
    return NewLead(
        lead_id=uuid7(now),
        tenant=tenant,
        source=source,
        lane=lane,
        received_at=now,
        key_hex=key_hex,
        body_hex=body_hex,
        payload=lead.payload,
        consent=lead.consent,
        context={"row": row.line},
    )
