"""``leads config``: is leads.yaml right, and what may it say?"""

import json

import click

from leads_pipeline.config import json_schema, load_settings
from leads_pipeline.errors import ConfigError


@click.group()
def config() -> None:
    """Check leads.yaml, print its schema."""


@config.command()
@click.pass_obj
def check(config_file: str | None) -> None:
    """Validate leads.yaml whole and name every fault; also say which secrets the environment does not hold."""
    settings = load_settings(config_file)
    click.echo(f"{settings.path}: valid")
    click.echo(f"  tenants       {', '.join(settings.tenants)}")
    click.echo(f"  destinations  {', '.join(settings.destinations) or 'none'}")
    for where, reference in settings.secrets().items():
        try:
            reference.resolve()
        except ConfigError:
            click.secho(f"  warning: {where}: the environment variable {reference.env} is not set", fg="yellow")


@config.command()
def schema() -> None:
    """Print the JSON Schema of leads.yaml."""
    click.echo(json.dumps(json_schema(), indent=2))
