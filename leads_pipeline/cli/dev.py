"""``leads dev``: the whole product in one terminal."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
import sqlalchemy as sa

from leads_pipeline.clock import Clock, SystemClock
from leads_pipeline.config import Settings, config_path, database_url, load_settings

if TYPE_CHECKING:
    from leads_pipeline.services.stack import Stack


@click.command()
@click.option("--port", default=3000, show_default=True, help="Port of Dagster's web server.")
@click.pass_obj
def dev(config_file: str | None, port: int) -> None:
    """Open the product: capture service, sandbox CRM, Dagster's web server and daemon, metrics for Prometheus.

    Sensors and schedules run: a lead that is posted reaches the CRM by itself. Ctrl-C, or SIGTERM, stops all of it.
    """
    from leads_pipeline.services.stack import Stack
    from leads_pipeline.services.supervisor import Supervisor, stop_on_signals
    from leads_pipeline.storage.embedded import EmbeddedServer
    from leads_pipeline.storage.open import open_database

    settings = load_settings(config_file)
    clock = SystemClock()
    with stop_on_signals() as stop_asked:
        stack = Stack(settings, webserver_port=port)
        # Before the database: where a service runs already, it must not lose the embedded server, which stops below.
        stack.check_ports(dagster=True)
        click.echo("Starting PostgreSQL …")
        engine = open_database(settings)
        try:
            stack.prepare()
            environment = stack.environment()
            for name in stack.missing_secrets(environment):
                click.secho(
                    f"warning: {name} is not set; what refers to it in leads.yaml does not work", fg="yellow", err=True
                )
            with Supervisor(log_directory=settings.state_path / "logs", clock=clock) as supervisor:
                for service in stack.services(environment, dagster=True):
                    if not stop_asked.is_set():
                        click.echo(f"Starting {service.name} …")
                        supervisor.start(service, stop_asked=stop_asked)
                if not stop_asked.is_set():
                    with _key_for_trying(engine, settings, clock) as (source, key):
                        _say_where(stack, source=source, key=key)
                        supervisor.watch(stop_asked)
                click.echo("\nStopping …")
        finally:
            engine.dispose()
            if database_url() is None:
                EmbeddedServer(settings.state_path).stop()
    click.echo("Stopped.")


@contextmanager
def _key_for_trying(engine: sa.Engine, settings: Settings, clock: Clock) -> Iterator[tuple[str, str]]:
    """A key for the first source, in force for as long as the product is open."""
    from leads_pipeline.storage.api_keys import create_api_key, revoke_api_key

    tenant, tenant_settings = next(iter(settings.tenants.items()))
    source = next(iter(tenant_settings.sources))
    with engine.begin() as connection:
        key = create_api_key(connection, tenant=tenant, source=source, now=clock.now())
    try:
        yield source, key.text
    finally:
        with engine.begin() as connection:
            revoke_api_key(connection, key.key_id, now=clock.now())


def _say_where(stack: "Stack", *, source: str, key: str) -> None:
    path = stack.settings.path
    # What a command finds by itself, from where one stands, needs no option.
    config = "" if config_path() == path else f"--config {path} "
    lead = {
        "email": "ada.byron@analytical-engines.example",
        "first_name": "Ada",
        "last_name": "Byron",
        "company": "Analytical Engines",
        "consent": {"granted": True, "purpose": "marketing", "channel": "email"},
    }
    click.echo(f"\n  Dagster        {stack.webserver_url}")
    for sandbox in stack.sandboxes:
        click.echo(f"  {sandbox.title:<15}{sandbox.address}  ({sandbox.vendor})")
    click.echo(f"  Capture        {stack.capture_url}  (how to post to it: {stack.capture_url}/docs)")
    if stack.settings.capture.example_page:
        click.echo(f"  Example form   {stack.capture_url}/example?key={key}")
    click.echo(f"  Metrics        {stack.metrics_url}/metrics  (for Prometheus: docs/metrics.md)")
    click.echo(f"  Logs           {stack.settings.state_path / 'logs'}")
    click.echo(f"\nPost a lead as {source}; it reaches the CRM by itself:\n")
    click.echo(f"  curl -sS {stack.capture_url}/v1/leads -H 'Authorization: Bearer {key}' \\")
    click.echo(f"    -H 'Content-Type: application/json' -d '{json.dumps(lead)}'")
    click.echo(f"\nThen: .venv/bin/leads {config}status, .venv/bin/leads {config}journey {lead['email']}")
    click.echo("Ctrl-C stops everything.")
