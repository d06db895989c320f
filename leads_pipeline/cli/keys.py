"""``leads keys``: the API keys of the HTTP door."""

import click
from rich.console import Console
from rich.table import Table

from leads_pipeline.clock import SystemClock
from leads_pipeline.config import SIGNED_KINDS, Settings, load_settings


@click.group()
def keys() -> None:
    """Make, list and revoke API keys: to post leads of a source, to look contacts up, to tell outcomes."""


@keys.command()
@click.option("--tenant", help="Tenant of the source; may be left out if leads.yaml has only one.")
@click.option("--source", help="Source that the key is for.")
@click.option(
    "--scope",
    type=click.Choice(["post", "lookup", "outcomes"]),
    default="post",
    show_default=True,
    help="post: leads of the source. Of the whole tenant, without a source: lookup asks for contacts, outcomes tells "
    "what became of leads.",
)
@click.option("--quiet", "-q", is_flag=True, help="Print the key alone.")
@click.pass_obj
def create(config_file: str | None, tenant: str | None, source: str | None, scope: str, quiet: bool) -> None:
    """Make a key and print it. It is shown this once; only its hash is kept."""
    from leads_pipeline.storage.api_keys import create_api_key, create_lookup_key, create_outcomes_key
    from leads_pipeline.storage.open import open_database

    settings = load_settings(config_file)
    if (source is None) != (scope != "post"):
        other = "lookup" if scope == "post" else scope
        raise click.UsageError(f"a key of scope post needs its --source; one of scope {other} is for the whole tenant")
    now = SystemClock().now()
    if source is None:
        tenant = configured_tenant(settings, tenant=tenant)
        with open_database(settings).begin() as connection:
            make = create_lookup_key if scope == "lookup" else create_outcomes_key
            key = make(connection, tenant=tenant, now=now)
    else:
        tenant = configured_source(settings, tenant=tenant, source=source)
        with open_database(settings).begin() as connection:
            key = create_api_key(connection, tenant=tenant, source=source, now=now)
    if quiet:
        click.echo(key.text)
        return
    does = "looks up contacts" if scope == "lookup" else "tells outcomes"
    meant = f"for {tenant}/{source}" if source else f"{does} of {tenant}"
    click.echo(f"key id  {key.key_id}   ({meant}; `leads keys revoke {key.key_id}` ends it)")
    click.echo(f"key     {key.text}")
    click.echo("Keep it now: it is not shown again.")
    if source and (kind := settings.tenants[tenant].sources[source].kind) in SIGNED_KINDS:
        click.secho(
            f"note: kind {kind} proves itself with its secret; this key is only for posting to /v1/leads as {source}",
            fg="yellow",
            err=True,
        )


@keys.command(name="list")
@click.pass_obj
def list_keys(config_file: str | None) -> None:
    """Show every key's id, what it is for and its state; never a key itself."""
    from leads_pipeline.storage.api_keys import list_api_keys
    from leads_pipeline.storage.open import open_database

    with open_database(load_settings(config_file)).connect() as connection:
        found = list_api_keys(connection)
    table = Table("key id", "tenant", "scope", "source", "created (UTC)", "state")
    for key in found:
        state = "in force" if key.revoked_at is None else f"revoked {key.revoked_at:%Y-%m-%d %H:%M}"
        source = key.source or ""
        table.add_row(key.key_id, key.tenant, key.scope, source, f"{key.created_at:%Y-%m-%d %H:%M}", state)
    Console().print(table)


@keys.command()
@click.argument("key_id")
@click.pass_obj
def revoke(config_file: str | None, key_id: str) -> None:
    """Put a key out of force.

    KEY_ID is its id, or the whole key. Running capture services refuse it within two seconds.
    """
    from leads_pipeline.storage.api_keys import KeyScope, revoke_api_key
    from leads_pipeline.storage.open import open_database

    with open_database(load_settings(config_file)).begin() as connection:
        key = revoke_api_key(connection, key_id, now=SystemClock().now())
    does = "look-ups" if key.scope is KeyScope.LOOKUP else "outcomes"
    meant = f"{key.tenant}/{key.source}" if key.source else f"{does} of {key.tenant}"
    click.echo(f"{key.key_id} ({meant}) is revoked")


def configured_source(settings: Settings, *, tenant: str | None, source: str) -> str:
    """The tenant of a source named on the command line.

    Raises:
        click.UsageError: the tenant or the source is not in leads.yaml, or the tenant must be named.
    """
    tenant = configured_tenant(settings, tenant=tenant)
    if settings.source(tenant, source) is None:
        known = ", ".join(settings.tenants[tenant].sources)
        raise click.UsageError(f"tenant {tenant} has no source {source!r} in {settings.path}; it has: {known}")
    return tenant


def configured_tenant(settings: Settings, *, tenant: str | None) -> str:
    """A tenant named on the command line, or the only one.

    Raises:
        click.UsageError: it is not in leads.yaml, or must be named.
    """
    if tenant is None:
        if len(settings.tenants) > 1:
            raise click.UsageError(f"name one with --tenant: {', '.join(settings.tenants)}")
        [tenant] = settings.tenants
    if tenant not in settings.tenants:
        raise click.UsageError(f"{settings.path} has no tenant {tenant!r}; it has: {', '.join(settings.tenants)}")
    return tenant
