"""``leads demo``: the whole product, on leads whose truth is known."""

import json
from pathlib import Path

import click

from leads_pipeline.clock import SystemClock
from leads_pipeline.config import load_settings

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--leads", "count", default=5_000, show_default=True, type=click.IntRange(1, 1_000_000))
@click.option("--seed", default=1, show_default=True, help="The same seed invents the same leads.")
@click.option("--input", "input_file", type=_FILE, help="A real file (CSV, Parquet, NDJSON) instead of invented leads.")
@click.option("--truth", "truth_column", help="The column of --input that says which rows are one person.")
@click.option("--map", "map_file", type=_FILE, help="YAML: column of --input → canonical field.")
@click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures to a file."
)
@click.pass_obj
def demo(
    config_file: str | None,
    count: int,
    seed: int,
    input_file: Path | None,
    truth_column: str | None,
    map_file: Path | None,
    json_path: Path | None,
) -> None:
    """Send leads through the whole chain into a sandbox CRM and show what happened.

    Everything runs on this machine, in a database of the demo's own: your leads are not touched. The sandbox allows 20
    requests in any 10 seconds, so that the limiter has to work.
    """
    if (truth_column or map_file) and not input_file:
        raise click.UsageError("--truth and --map belong to --input")
    from rich.console import Console

    from leads_pipeline.demo.leads import invented_leads, leads_of_file
    from leads_pipeline.demo.place import prepare_place
    from leads_pipeline.demo.report import print_figures
    from leads_pipeline.demo.run import run_demo

    console = Console(soft_wrap=True)
    settings = prepare_place(load_settings(config_file).state_path / "demo")
    if input_file:
        leads, mapping = leads_of_file(
            input_file,
            truth_column=truth_column,
            map_file=map_file,
            on_broken=lambda fault: console.print(f"  {fault}", style="yellow", markup=False),
        )
        console.print(f"{input_file.name}: {len(leads):,} leads", highlight=False)
        used = ", ".join(f"{use.column} → {use.field}" for use in mapping.uses if use.field)
        console.print(f"  columns: {used}", highlight=False)
        kept = ", ".join(use.column for use in mapping.uses if not use.field and use.column != truth_column)
        if kept:
            console.print(f"  kept as sent: {kept}", highlight=False)
    else:
        leads = invented_leads(count, seed=seed)
        console.print(f"{len(leads):,} invented leads, seed {seed}", highlight=False)
    figures, example = run_demo(settings, leads, clock=SystemClock(), console=console)
    console.print()
    print_figures(console, figures)
    if json_path:
        json_path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    _say_what_next(settings.path, example)


def _say_what_next(path: Path, lead_id: str | None) -> None:
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    leads = f".venv/bin/leads --config {shown}"
    click.echo("Look around:")
    click.echo(f"  make dev CONFIG={shown}")
    click.echo("      Dagster, the sandbox CRM and the door, on what you just saw")
    click.echo(f"  {leads} status")
    if lead_id:
        click.echo(f"  {leads} journey {lead_id}")
        click.echo("      every row and decision about one lead; an e-mail address will do as well")
    click.echo(f"  {leads} db start && {leads} db url")
    click.echo("      for psql or a notebook; the marts are in the schema marts")
    click.echo("Your own leads: make dev.")
