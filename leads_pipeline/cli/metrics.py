"""``leads metrics``: the whole pipeline's numbers for Prometheus."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from leads_pipeline.cli._sandbox_keys import lend_sandbox_keys
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import load_settings
from leads_pipeline.telemetry import configure_logging

if TYPE_CHECKING:
    from leads_pipeline.watching.metrics.taking import PipelineMetrics


@click.group()
def metrics() -> None:
    """Queues, latencies, deliveries, promises, rules and alerts, as Prometheus reads them; see docs/metrics.md."""


@metrics.command(name="print")
@click.pass_obj
def print_(config_file: str | None) -> None:
    """Print the pipeline's numbers once, as Prometheus reads them.

    Exit code 1 if any could not be read; leads_metrics_part_ok says which.

    For example, what waits: leads metrics print | grep ^leads_queue
    """
    with _metrics(config_file) as found:
        click.echo(found.text().decode(), nl=False)
        if found.missing:
            click.secho(f"error: not read: {', '.join(found.missing)}; the log says why", fg="red", err=True)
            sys.exit(1)


@metrics.command()
@click.option("--host", help="Address to listen on; metrics.host of leads.yaml if not given.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port; metrics.port of leads.yaml if not given, 0: any free."
)
@click.pass_obj
def serve(config_file: str | None, host: str | None, port: int | None) -> None:
    """Serve the pipeline's numbers to Prometheus at /metrics until Ctrl-C or SIGTERM.

    One server is enough for a database, whatever runs beside it: nothing is kept in a process. It shows no personal
    data, but how a business fares: keep it off the internet.
    """
    from leads_pipeline.services.metrics_server import MetricsServer

    configure_logging()
    with _metrics(config_file) as found:
        told = found.settings.metrics
        with MetricsServer(found, host=host or told.host, port=told.port if port is None else port) as server:
            for number in (signal.SIGINT, signal.SIGTERM):
                # `shutdown` waits for the loop, which this handler interrupts: it must not wait here.
                signal.signal(number, lambda _number, _frame: threading.Thread(target=server.shutdown).start())
            click.echo(f"metrics are at {server.url}/metrics")
            server.serve_forever()


@contextmanager
def _metrics(config_file: str | None) -> "Iterator[PipelineMetrics]":
    from leads_pipeline.storage.open import open_database
    from leads_pipeline.watching.metrics.taking import CONNECT_SECONDS, PipelineMetrics, with_short_statements

    settings = load_settings(config_file)
    lend_sandbox_keys(settings)
    engine = open_database(
        with_short_statements(settings), application_name="leads_metrics", connect_seconds=CONNECT_SECONDS
    )
    try:
        yield PipelineMetrics(engine, settings, SystemClock())
    finally:
        engine.dispose()
