"""A file into the buffer, as if each of its rows had been posted.

A row's content is its key: importing a file again stores nothing twice. How far an import came is committed with the
rows themselves, so that one that was killed goes on where it stopped, with the counts of a run that was not. (With the
buffer in Redis it is committed after them: there the keys keep a row from being stored twice, and the rows of one
commit may be counted as duplicates.) A row that cannot be read is kept in an error file; the others go on.
"""

import gc
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path

import sqlalchemy as sa

from leads_pipeline.buffer.bounds import pace_for
from leads_pipeline.buffer.bulk import append_in_bulk, copy_lines
from leads_pipeline.buffer.files.leads import ReadLead, leads_of
from leads_pipeline.buffer.files.opening import open_lead_file
from leads_pipeline.buffer.files.rejected import RejectedFile
from leads_pipeline.buffer.files.rows import BrokenRow, LeadFile
from leads_pipeline.buffer.opening import open_lead_buffer, prepare_buffer
from leads_pipeline.buffer.port import LeadBuffer, NewLead, Posted, PostResult, content_key
from leads_pipeline.buffer.postgresql import PostgresBuffer
from leads_pipeline.clock import Clock
from leads_pipeline.config import Settings
from leads_pipeline.domain.ids import sorted_uuid7s
from leads_pipeline.domain.import_mapping import ColumnMapping, map_columns
from leads_pipeline.domain.posted_lead import PostedLead
from leads_pipeline.domain.row_rate import RowRate
from leads_pipeline.domain.stage import Lane
from leads_pipeline.errors import ImportFileError, NotFound
from leads_pipeline.storage.database import translated_errors
from leads_pipeline.storage.import_progress import ImportProgress, advance_progress, begin_progress, find_progress
from leads_pipeline.storage.orders import OrdersWatch

# Rows of one commit: large enough that the commit costs little beside them (measured in the database: 15.3 µs a row
# with 1,000, 13.0 with 5,000, 12.5 with 20,000), small enough that a kill loses a tenth of a second.
COMMIT_ROWS = 5_000

# Redis does nothing else while it stores a group.
COMMIT_ROWS_ELSEWHERE = 1_000
# A group is some ten thousand lists and dictionaries, none of them in a cycle. Looked through every 700, as is Python's
# habit, they cost as much as all of reading: 13.4 µs a row were 7.9 without.
COLLECT_AFTER = 100_000

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ImportWatcher:
    """What an import tells while it runs."""

    progress: Progress = lambda _done, _total: None  # how far into the file it is, and how long the file is
    rows: Callable[[int], None] = lambda _rows: None  # rows settled so far, over all runs
    say: Callable[[str], None] = lambda _sentence: None  # once: where it resumes
    waiting: Callable[[str | None], None] = lambda _why: None  # why nothing goes on just now; None: it goes on


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """What an import did, over all runs that it took: ``rows`` = ``accepted`` + ``duplicates`` + ``rejected``.

    ``broken`` names the first rejected rows of this run by line and reason; all are in ``rejected_file``.
    ``finished_before`` is when the file had been imported already: then nothing was read.
    """

    rows: int
    accepted: int
    duplicates: int
    rejected: int
    broken: tuple[tuple[int, str], ...]
    rejected_file: Path | None
    resumed_at: int = 0
    finished_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Group:
    """The rows of one commit."""

    leads: list[NewLead]
    read: list[ReadLead]
    lines: list[str] | None  # of COPY, where the buffer takes them
    broken: list[BrokenRow]
    position: int


def import_file(
    engine: sa.Engine,
    file: LeadFile | Path,
    *,
    settings: Settings,
    tenant: str,
    source: str,
    clock: Clock,
    mapping: ColumnMapping | None = None,
    rejected_file: Path | None = None,
    rate: float | None = None,
    again: bool = False,
    watcher: ImportWatcher | None = None,
) -> ImportSummary:
    """Put a file's leads into the buffer of a source, ``COMMIT_ROWS`` a commit.

    A file that was begun is resumed; one that was finished is not read, unless ``again``. The pace is that of the
    buffer's bounds, and at most ``rate`` rows a second.

    Raises:
        ImportFileError: the file cannot be read as leads at all, the error file cannot be written, or the same file is
            being imported by somebody else.
        NotFound: the tenant or the source is not configured.
        DatabaseUnavailable: run it again later; it goes on where it stopped.
    """
    source_settings = settings.source(tenant, source)
    if source_settings is None:
        raise NotFound(f"{settings.path} has no source {source!r} of a tenant {tenant!r}")
    opened = open_lead_file(file) if isinstance(file, Path) else file
    destination = rejected_file or rejected_path(opened, opened.content.path)
    if destination.resolve() == opened.content.path.resolve():
        raise ImportFileError(f"{opened.content.name} cannot be its own error file; name another with --rejected")
    mapping = mapping or map_columns(opened.columns)
    watcher = watcher or ImportWatcher()
    now = clock.now()
    fresh = ImportProgress(_fingerprint(opened, mapping), tenant, source, started_at=now)
    with translated_errors("beginning an import"), engine.begin() as connection:
        progress = find_progress(connection, file_sha256=fresh.file_sha256, tenant=tenant, source=source)
        if progress is None or again:
            progress = fresh
            begin_progress(connection, progress, now=now)
    if progress.finished_at is not None:
        return _summary(progress, destination, finished_before=progress.finished_at)
    if progress.position:
        watcher.say(f"resuming at row {progress.position + 1:,}; the rows before it are settled")
    prepare_buffer(settings, engine, now=now)
    with (
        _rare_collections(),
        closing(open_lead_buffer(settings, engine)) as buffer,
        RejectedFile(opened, destination, settled_bytes=progress.rejected_bytes) as rejects,
    ):
        running = _Import(engine, buffer, progress, rejects, opened, clock)
        orders = OrdersWatch(engine, clock=clock)
        pace = pace_for(
            engine,
            buffer,
            settings=settings,
            clock=clock,
            on_full=watcher.waiting,
            on_room=lambda: watcher.waiting(None),
            ordered=lambda: orders.now().import_speed(tenant),
        )
        row_rate = None if rate is None else RowRate(rate, began=clock.monotonic())
        most = COMMIT_ROWS if isinstance(buffer, PostgresBuffer) else min(COMMIT_ROWS, COMMIT_ROWS_ELSEWHERE)
        at_once = most if row_rate is None else row_rate.group_rows(most)
        groups = running.groups(mapping, Lane(source_settings.lane), at_once)
        # While the database commits one group, the next is read: one ahead, in a thread.
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="import-reader") as reader:
            coming = reader.submit(next, groups, None)
            while (group := coming.result()) is not None:
                coming = reader.submit(next, groups, None)
                pace.wait()
                if row_rate is not None:
                    clock.sleep(row_rate.wait_seconds(len(group.leads), now=clock.monotonic()))
                running.commit(group)
                watcher.progress(group.position, opened.total)
                watcher.rows(running.progress.position)
        finished = running.finish()
    watcher.progress(opened.total, opened.total)
    return _summary(finished, destination, broken=rejects.first, resumed_at=progress.position)


def rejected_path(file: LeadFile, beside: Path) -> Path:
    """Where the rows that cannot be read are kept, unless another place was named."""
    return beside.with_name(f"{beside.name}.rejected.{file.rejected_suffix}")


class _Import:
    """One run over one file."""

    def __init__(
        self,
        engine: sa.Engine,
        buffer: LeadBuffer,
        progress: ImportProgress,
        rejects: RejectedFile,
        file: LeadFile,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._buffer = buffer
        self._rejects = rejects
        self._file = file
        self._clock = clock
        self.progress = progress

    def groups(self, mapping: ColumnMapping, lane: Lane, rows_at_once: int) -> Iterator[_Group]:
        """The rows that are not settled, a commit's worth at a time, ready to be stored."""
        rows = islice(self._file.rows(), self.progress.position, None)
        answers = leads_of(self._file, rows, mapping)
        is_bulk = isinstance(self._buffer, PostgresBuffer)
        while found := list(islice(answers, rows_at_once)):
            read = [row for row in found if isinstance(row, ReadLead)]
            leads = self._new_leads(read, lane)
            broken = [row for row in found if isinstance(row, BrokenRow)]
            yield _Group(leads, read, copy_lines(leads) if is_bulk else None, broken, self._file.position)

    def commit(self, group: _Group) -> None:
        """Store a group, and with it how far the import is."""
        now = self._clock.now()
        for row in group.broken:
            self._rejects.add(row)
        if group.lines is None:
            posted = self._buffer.append(group.leads, now=now)
            with translated_errors("storing how far an import is"), self._engine.begin() as connection:
                after = self._advance(connection, group, posted, now=now)
        else:
            with translated_errors("storing leads"), self._engine.begin() as connection:
                posted = append_in_bulk(connection, group.leads, now=now, lines=group.lines)
                after = self._advance(connection, group, posted, now=now)
        self.progress = after

    def finish(self) -> ImportProgress:
        """Note that all rows are settled."""
        now = self._clock.now()
        with translated_errors("finishing an import"), self._engine.begin() as connection:
            finished = replace(self.progress, finished_at=now)
            advance_progress(connection, self.progress, finished, now=now)
        return finished

    def _advance(
        self, connection: sa.Connection, group: _Group, posted: Sequence[Posted], *, now: datetime
    ) -> ImportProgress:
        results = Counter(answer.result for answer in posted)
        for read, answer in zip(group.read, posted, strict=True):
            if answer.result is PostResult.UNSTORABLE:
                reason = "holds a value that the database cannot keep"
                self._rejects.add(BrokenRow(read.line, reason, self._file.rejected(read.row, reason)))
        after = self.progress.after(
            accepted=results[PostResult.ACCEPTED],
            # A key that came before with another body cannot be: the key is the body's.
            duplicates=results[PostResult.DUPLICATE] + results[PostResult.KEY_REUSED],
            rejected=len(group.broken) + results[PostResult.UNSTORABLE],
            rejected_bytes=self._rejects.settle(),
        )
        advance_progress(connection, self.progress, after, now=now)
        return after

    def _new_leads(self, read: Sequence[ReadLead], lane: Lane) -> list[NewLead]:
        now = self._clock.now()
        tenant, source = self.progress.tenant, self.progress.source
        leads = []
        for row, lead_id in zip(read, sorted_uuid7s(now, len(read)), strict=True):
            key_hex, body_hex = content_key(PostedLead(row.payload, row.consent))
            leads.append(
                NewLead(
                    lead_id=lead_id,
                    tenant=tenant,
                    source=source,
                    lane=lane,
                    received_at=now,
                    key_hex=key_hex,
                    body_hex=body_hex,
                    payload=row.payload,
                    consent=row.consent,
                    context={"row": row.line},
                )
            )
        return leads


@contextmanager
def _rare_collections() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _fingerprint(file: LeadFile, mapping: ColumnMapping) -> str:
    """A hash of the file and of how it is read: under another mapping its rows are other leads."""
    how = [
        file.kind,
        file.reading,
        sorted((name, list(columns)) for name, columns in mapping.sources.items()),
        sorted((column, str(channel), yes) for column, (channel, yes) in mapping.consent.items()),
        mapping.consent_time,
    ]
    return hashlib.sha256(f"{file.content.sha256()} {json.dumps(how)}".encode()).hexdigest()


def _summary(
    progress: ImportProgress,
    destination: Path,
    *,
    broken: Sequence[tuple[int, str]] = (),
    resumed_at: int = 0,
    finished_before: datetime | None = None,
) -> ImportSummary:
    return ImportSummary(
        rows=progress.position,
        accepted=progress.accepted,
        duplicates=progress.duplicates,
        rejected=progress.rejected,
        broken=tuple(broken),
        rejected_file=destination if progress.rejected else None,
        resumed_at=resumed_at,
        finished_before=finished_before,
    )
