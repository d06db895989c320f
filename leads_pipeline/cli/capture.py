"""``leads capture``: the HTTP door."""

import click

from leads_pipeline.clock import SystemClock
from leads_pipeline.config import load_settings, lookup_database_url
from leads_pipeline.telemetry import configure_logging


@click.group()
def capture() -> None:
    """Take leads over HTTP."""


@capture.command()
@click.option("--host", help="Address to listen on; capture.host of leads.yaml if not given.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port; capture.port of leads.yaml if not given, 0: any free."
)
@click.option(
    "--workers", type=click.IntRange(1, 64), help="Processes on the port; capture.workers of leads.yaml if not given."
)
@click.pass_obj
def serve(config_file: str | None, host: str | None, port: int | None, workers: int | None) -> None:
    """Serve the HTTP door until SIGTERM or Ctrl-C; what was accepted is stored first."""
    from leads_pipeline.buffer.opening import prepare_buffer
    from leads_pipeline.capture.server import serve as serve_capture
    from leads_pipeline.storage.open import open_database

    configure_logging()
    settings = load_settings(config_file)
    engine = open_database(settings)
    database_url = engine.url.render_as_string(hide_password=False)
    try:
        prepare_buffer(settings, engine, now=SystemClock().now())
    finally:
        engine.dispose()
    serve_capture(
        settings,
        database_url=database_url,
        clock=SystemClock(),
        host=host,
        port=port,
        workers=workers,
        lookup_url=lookup_database_url(),
        on_listening=lambda address: click.echo(f"capture listens on {address}"),
    )
