"""``leads outcomes``: what became of leads after delivery, as it was told to the door."""

import json
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from leads_pipeline.clock import SystemClock
from leads_pipeline.config import load_settings
from leads_pipeline.domain.outcomes import OPPORTUNITIES, OutcomeKind

if TYPE_CHECKING:
    from leads_pipeline.storage.outcomes import OutcomeCount, SourceOutcomes


@click.command()
@click.option("--days", type=click.IntRange(1, 3_650), default=30, show_default=True, help="How far to look back.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@click.pass_obj
def outcomes(config_file: str | None, days: int, as_json: bool) -> None:
    """Show what senders of mail and CRMs told of leads: bounces, complaints, opportunities.

    By source: of the leads that came in these days and belong to a contact, of how many each was told.

    \b
    leads outcomes --days 7
    """
    from leads_pipeline.storage.open import open_database
    from leads_pipeline.storage.outcomes import outcome_counts, outcomes_by_source

    engine = open_database(load_settings(config_file))
    since = SystemClock().now() - timedelta(days=days)
    try:
        with engine.connect() as connection:
            counts, sources = outcome_counts(connection, since), outcomes_by_source(connection, since)
    finally:
        engine.dispose()
    if as_json:
        found = {
            "since": since,
            "told": [asdict(item) for item in counts],
            "sources": [asdict(item) for item in sources],
        }
        click.echo(json.dumps(found, indent=2, default=str))
        return
    if not counts:
        click.echo(f"Nothing was told of the last {days} days; docs/outcomes.md says how it is.")
        return
    _print(counts, sources)


def _print(counts: "list[OutcomeCount]", sources: "list[SourceOutcomes]") -> None:
    from rich.console import Console

    from leads_pipeline.cli.status import plain_table

    console = Console()
    numbers = ("Told", "Unmatched", "Amount")
    table = plain_table("Told", "Tenant", "Kind", *numbers, numbers=numbers)
    for item in counts:
        amount = f"{item.amount:,.2f}" if item.amount is not None and item.kind in OPPORTUNITIES else ""
        table.add_row(item.tenant, item.kind, f"{item.outcomes:,}", f"{item.unmatched:,}", amount)
    console.print(table)
    shown = [kind for kind in OutcomeKind if any(kind in item.by_kind for item in sources)]
    table = plain_table("Leads, by source", "Tenant", "Source", "Leads", *shown, numbers=("Leads", *shown))
    for source in sources:
        table.add_row(source.tenant, source.source, f"{source.leads:,}", *(_share(source, kind) for kind in shown))
    console.print(table)


def _share(source: "SourceOutcomes", kind: OutcomeKind) -> str:
    told = source.by_kind.get(kind)
    return f"{told:,} ({told / source.leads:.1%})" if told else ""
