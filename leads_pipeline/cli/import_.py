"""``leads import``: a file of leads into the buffer."""

from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from leads_pipeline.cli.keys import configured_source
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import load_settings
from leads_pipeline.domain.import_mapping import ColumnMapping
from leads_pipeline.steps.import_file import ImportSummary

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(name="import")
@click.argument("file", type=_FILE)
@click.option("--source", required=True, help="The source of leads.yaml that the leads come from.")
@click.option("--tenant", help="Its tenant; may be left out if leads.yaml has only one.")
@click.option("--map", "map_file", type=_FILE, help="YAML, a line a column: 'column: field', or 'column: null'.")
@click.option("--rejected", "rejected_file", type=_FILE, help="Where rows that cannot be read are kept.")
@click.option("--dry-run", is_flag=True, help="Read everything, say what would happen, store nothing.")
@click.pass_obj
def import_(
    config_file: str | None,
    file: Path,
    source: str,
    tenant: str | None,
    map_file: Path | None,
    rejected_file: Path | None,
    dry_run: bool,
) -> None:
    """Import a CSV, Parquet or NDJSON file of leads. Importing it again stores nothing twice."""
    from leads_pipeline.steps.import_file import check_file, import_file, mapping_of, read_map_file
    from leads_pipeline.storage.open import open_database

    settings = load_settings(config_file)
    tenant = configured_source(settings, tenant=tenant, source=source)
    console = Console()
    mapping = mapping_of(file, read_map_file(map_file) if map_file else None)
    _print_mapping(console, mapping)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("reading" if dry_run else "importing", total=None)

        def advance(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        if dry_run:
            summary = check_file(file, mapping=mapping, on_progress=advance)
        else:
            summary = import_file(
                open_database(settings),
                file,
                settings=settings,
                tenant=tenant,
                source=source,
                clock=SystemClock(),
                mapping=mapping,
                rejected_file=rejected_file,
                on_progress=advance,
            )
    _print_summary(console, summary, dry_run=dry_run)


def _print_mapping(console: Console, mapping: ColumnMapping) -> None:
    table = Table("column", "field", "why", title="How the columns are understood", title_justify="left")
    for use in mapping.uses:
        table.add_row(use.column, use.field or "–", use.reason)
    console.print(table)


def _print_summary(console: Console, summary: ImportSummary, *, dry_run: bool) -> None:
    if dry_run:
        console.print(
            f"{summary.rows:,} rows: {summary.rows - summary.rejected:,} would be posted, {summary.rejected:,} rejected"
        )
    else:
        console.print(
            f"{summary.rows:,} rows: {summary.accepted:,} accepted, {summary.duplicates:,} duplicates of leads that "
            f"came before, {summary.rejected:,} rejected"
        )
    for line, reason in summary.broken:
        console.print(f"  line {line}: {reason}", style="yellow", markup=False)
    if summary.rejected > len(summary.broken):
        console.print(f"  … and {summary.rejected - len(summary.broken):,} more", style="yellow")
    if summary.rejected_file:
        console.print(f"the rejected rows are in {summary.rejected_file}; mend them there and import that file")
