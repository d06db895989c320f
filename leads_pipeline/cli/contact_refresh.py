"""``leads contact refresh``: golden contacts are made anew by the rules that stand in leads.yaml now."""

import click

from leads_pipeline.clock import SystemClock
from leads_pipeline.config import load_settings


@click.command()
@click.option("--tenant", help="Whose contacts; may be left out if leads.yaml has only one.")
@click.pass_obj
def refresh(config_file: str | None, tenant: str | None) -> None:
    """Let the next runs make every golden contact of a tenant anew.

    For when survivorship or a source's priority was changed in leads.yaml, or a destination was added. They go through
    in the batch lane; a contact that comes out as it was is not sent again.
    """
    from leads_pipeline.cli.keys import configured_tenant
    from leads_pipeline.steps.refreshed_contacts import ask_for_all_contacts
    from leads_pipeline.storage.open import open_database

    settings = load_settings(config_file)
    tenant = configured_tenant(settings, tenant=tenant)
    engine = open_database(settings)
    try:
        asked = ask_for_all_contacts(engine, tenant=tenant, clock=SystemClock())
    finally:
        engine.dispose()
    click.echo(f"{asked:,} contacts of {tenant} wait for the next run")
