"""``leads matching reindex``: what leads are found by made anew, after a release that makes it otherwise."""

from functools import partial

import click
from rich.console import Console

from leads_pipeline.cli._progress import ProgressLines
from leads_pipeline.cli.matching_models import tenant_of
from leads_pipeline.config import load_settings


@click.command()
@click.option("--tenant", help="Whose; without it, every tenant whose records an older release has made.")
@click.pass_obj
def reindex(config_file: str | None, tenant: str | None) -> None:
    """Make the records and keys by which leads are found anew, and count again how common values are.

    Contacts stay as they are. New leads are resolved in between; killed, it goes on where it was.
    """
    from leads_pipeline.domain.match_keys import INDEX_VERSION
    from leads_pipeline.steps import reindexed_records
    from leads_pipeline.storage.open import open_database
    from leads_pipeline.storage.reindexing import stale_indexes

    settings = load_settings(config_file)
    engine = open_database(settings)
    if tenant is not None:
        tenants = [tenant_of(settings, tenant)]
    else:
        with engine.connect() as connection:
            tenants = [item.tenant for item in stale_indexes(connection)]
        if not tenants:
            click.echo(f"nothing to do: all records have keys of version {INDEX_VERSION}; --tenant makes one's anew")
    console = Console()
    for name in tenants:
        with ProgressLines(console) as bar:
            done = reindexed_records.reindex(engine, name, progress=partial(_advance, bar, name))
        click.echo(f"{name}: {done.leads:,} leads gone through, {done.records:,} records")
        click.echo(f"{name}: {done.recount.corrected:,} values had been counted otherwise")


def _advance(bar: ProgressLines, tenant: str, doing: str, done: int, total: int) -> None:
    bar.advance(f"{tenant}: {doing}", done, total)
