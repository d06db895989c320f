"""``leads import``: a file of leads into the buffer."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from leads_pipeline.cli.keys import configured_source
from leads_pipeline.clock import Clock, SystemClock
from leads_pipeline.config import DATABASE_URL_VARIABLE, Settings, database_url, load_settings

if TYPE_CHECKING:
    import sqlalchemy as sa

    from leads_pipeline.buffer.files.fetching import Fetched
    from leads_pipeline.buffer.files.rows import LeadFile
    from leads_pipeline.domain.import_mapping import ColumnMapping
    from leads_pipeline.steps.import_check import ImportCheck
    from leads_pipeline.steps.import_file import ImportSummary, ImportWatcher

_FILE = click.Path(dir_okay=False, path_type=Path)
_FORMATS = ("csv", "tsv", "excel", "parquet", "ndjson", "json")


@click.command(name="import")
@click.argument("file")
@click.option("--source", required=True, metavar="NAME", help="The source of leads.yaml that the leads come from.")
@click.option("--tenant", metavar="NAME", help="Its tenant; may be left out if leads.yaml has only one.")
@click.option("--dry-run", is_flag=True, help="Read everything, say what would happen, store nothing.")
@click.option("--map", "map_file", type=_FILE, help="YAML, a line a column: 'column: field', or 'column: null'.")
@click.option("--format", "file_format", type=click.Choice(_FORMATS), help="What the file is, if it is not found out.")
@click.option("--sheet", metavar="NAME|N", help="Of a workbook: the sheet. The first with a row, if not given.")
@click.option("--encoding", metavar="NAME", help="Of CSV: windows-1252, utf-16, … Found out, if not given.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="N", help="At most N rows a second.")
@click.option("--rejected", "rejected_file", type=_FILE, help="Where rows that cannot be read are kept.")
@click.option("--again", is_flag=True, help="Read a file once more that was imported to its end.")
@click.pass_obj
def import_(
    config_file: str | None,
    *,
    file: str,
    source: str,
    tenant: str | None,
    dry_run: bool,
    map_file: Path | None,
    file_format: str | None,
    sheet: str | None,
    encoding: str | None,
    rate: float | None,
    rejected_file: Path | None,
    again: bool,
) -> None:
    """Import leads from CSV, TSV, Excel, OpenDocument, Parquet, NDJSON or a JSON array.

    FILE is a path, - for standard input, or an address: https://…, or s3://…, gs://… and whatever else fsspec has a
    driver for. Any of them may be packed with gzip.

    An import that broke off goes on where it stopped when it is started again, and no row is stored twice.
    """
    from leads_pipeline.buffer.files.leads import mapping_of, read_map_file
    from leads_pipeline.buffer.files.opening import open_lead_file

    settings = load_settings(config_file)
    tenant = configured_source(settings, tenant=tenant, source=source)
    own = read_map_file(map_file) if map_file else None
    console = Console()
    clock = SystemClock()
    with _fetched(console, file) as found:
        opened = open_lead_file(found.path, name=found.name, file_format=file_format, sheet=sheet, encoding=encoding)
        mapping = mapping_of(opened, own)
        _print_mapping(console, opened, mapping)
        if dry_run:
            _check(console, opened, mapping, settings, tenant=tenant, source=source, clock=clock)
            return
        from leads_pipeline.steps.import_file import import_file, rejected_path
        from leads_pipeline.storage.open import open_database

        with _Bar(console, "importing", clock) as bar:
            summary = import_file(
                open_database(settings),
                opened,
                settings=settings,
                tenant=tenant,
                source=source,
                clock=clock,
                mapping=mapping,
                rejected_file=rejected_file or rejected_path(opened, found.beside),
                rate=rate,
                again=again,
                watcher=bar.watcher(),
            )
        _print_summary(console, opened, summary)


@contextmanager
def _fetched(console: Console, location: str) -> "Iterator[Fetched]":
    from leads_pipeline.buffer.files.fetching import STANDARD_INPUT, fetched, is_address

    stdin = sys.stdin.buffer
    if not is_address(location):
        with fetched(location, stdin=stdin, on_progress=lambda _done, _total: None) as found:
            yield found
        return
    if location == STANDARD_INPUT and stdin.isatty():
        console.print("reading leads from the terminal; Ctrl-D ends them")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("fetching", total=None)
        stack = ExitStack()
        found = stack.enter_context(
            fetched(
                location, stdin=stdin, on_progress=lambda done, total: bar.update(task, completed=done, total=total)
            )
        )
    with stack:
        yield found


class _Bar:
    """The progress bar: how far, how fast, how long still, and why it waits."""

    def __init__(self, console: Console, doing: str, clock: Clock) -> None:
        self._console = console
        self._doing = doing
        self._clock = clock
        self._began = clock.monotonic()
        self._first_rows: int | None = None
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[pace]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        self._progress = Progress(*columns, console=console)
        self._task = self._progress.add_task(doing, total=None, pace="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._progress.stop()

    def advance(self, done: int, total: int) -> None:
        """Say how far into the file it is."""
        self._progress.update(self._task, completed=done, total=total)

    def rows(self, rows: int) -> None:
        """Say how many rows are settled."""
        if self._first_rows is None:  # resumed: what was settled before says nothing about the pace
            self._first_rows, self._began = rows, self._clock.monotonic()
        seconds = self._clock.monotonic() - self._began
        pace = (
            f" · {(rows - self._first_rows) / seconds:,.0f} rows/s" if seconds > 0 and rows > self._first_rows else ""
        )
        self._progress.update(self._task, pace=f"{rows:,} rows{pace}")

    def waiting(self, why: str | None) -> None:
        """Say why nothing goes on."""
        self._progress.update(self._task, description=self._doing if why is None else "waiting")
        sentence = "there is room in the buffer again: going on" if why is None else why
        self._progress.console.print(sentence, style="yellow", markup=False)

    def watcher(self) -> "ImportWatcher":
        """What an import tells this bar."""
        from leads_pipeline.steps.import_file import ImportWatcher

        def say(sentence: str) -> None:
            self._progress.console.print(sentence, markup=False)

        return ImportWatcher(progress=self.advance, rows=self.rows, say=say, waiting=self.waiting)


def _check(
    console: Console,
    opened: "LeadFile",
    mapping: "ColumnMapping",
    settings: Settings,
    *,
    tenant: str,
    source: str,
    clock: Clock,
) -> None:
    from leads_pipeline.steps.import_check import check_file

    engine, why_not = _database_to_look_at(settings)
    source_settings = settings.source(tenant, source)
    assert source_settings is not None
    with _Bar(console, "reading", clock) as bar:
        check = check_file(
            opened,
            mapping=mapping,
            tenant=tenant,
            source=source,
            country=source_settings.country or settings.tenants[tenant].country,
            today=clock.now().date(),
            engine=engine,
            on_progress=bar.advance,
        )
    _print_check(console, check, why_not)


def _database_to_look_at(settings: Settings) -> "tuple[sa.Engine | None, str]":
    """A database that is there already, or why none is looked at: a dry run makes none."""
    from leads_pipeline.errors import DatabaseError, EmbeddedServerError
    from leads_pipeline.storage.embedded import EmbeddedServer, ServerState
    from leads_pipeline.storage.open import open_database

    if settings.buffer.kind == "redis":
        return None, "the buffer is in Redis, whose keys are not asked"
    if database_url() is None and EmbeddedServer(settings.state_path).status().state is ServerState.ABSENT:
        return None, f"there is no database yet, and {DATABASE_URL_VARIABLE} is not set"
    try:
        return open_database(settings), ""
    except (DatabaseError, EmbeddedServerError) as error:
        return None, str(error)


def _print_mapping(console: Console, opened: "LeadFile", mapping: "ColumnMapping") -> None:
    table = Table("column", "field", "why", title="How the columns are understood", title_justify="left")
    for use in mapping.uses:
        table.add_row(use.column, use.field or "–", use.reason)
    console.print(table)
    for note in opened.notes:
        console.print(note, markup=False)


def _print_check(console: Console, check: "ImportCheck", why_not: str) -> None:
    console.print(f"{check.rows:,} rows; a dry run stores nothing")
    lines = [
        ("would be stored", check.new, f"{check.valid:,} valid, {check.invalid:,} that validation would set aside"),
        ("repeat an earlier row of the file", check.repeated, ""),
        ("known from before", check.known, f"not looked up: {why_not}" if check.known is None else ""),
        ("rejected", check.rejected, "cannot be read" if check.rejected else ""),
    ]
    table = Table.grid(padding=(0, 2))
    for name, count, remark in lines:
        table.add_row(f"  {name}", "?" if count is None else f"{count:,}", remark)
    console.print(table)
    if check.reasons:
        console.print("  why validation would set leads aside (a lead may have several reasons):")
        for reason, count in check.reasons:
            console.print(f"    {reason}: {count:,}", markup=False)
    _print_broken(console, check.broken, check.rejected)


def _print_summary(console: Console, opened: "LeadFile", summary: "ImportSummary") -> None:
    if summary.finished_before is not None:
        console.print(
            f"{opened.content.name} was imported to its end on {summary.finished_before:%Y-%m-%d %H:%M} UTC, and was "
            "not read now; --again reads it once more, which stores only what is new. It had:",
            markup=False,
        )
    console.print(
        f"{summary.rows:,} rows: {summary.accepted:,} accepted, {summary.duplicates:,} duplicates of leads that "
        f"came before, {summary.rejected:,} rejected"
    )
    if summary.resumed_at:
        console.print(f"  counted over all runs; this one began with row {summary.resumed_at + 1:,}")
    if summary.finished_before is None:
        _print_broken(console, summary.broken, summary.rejected)
    if summary.rejected_file and (summary.finished_before is None or summary.rejected_file.exists()):
        console.print(
            f"the rejected rows are in {summary.rejected_file}; mend them there and import that file", markup=False
        )


def _print_broken(console: Console, broken: tuple[tuple[int, str], ...], rejected: int) -> None:
    for line, reason in broken:
        console.print(f"  line {line}: {reason}", style="yellow", markup=False)
    if broken and rejected > len(broken):  # those of a run that broke off stand in the file of rejected rows
        console.print(f"  … and {rejected - len(broken):,} more", style="yellow")
