"""``leads watch``: the pipeline looks at itself, without Dagster."""

import json
import logging
import os
import socket

import click

from leads_pipeline.config import load_settings


@click.command()
@click.option("--once", is_flag=True, help="Look once and end; exit code 1 if a part failed.")
@click.option("--json", "as_json", is_flag=True, help="One object a look.")
@click.pass_obj
def watch(config_file: str | None, once: bool, as_json: bool) -> None:
    """Fold latencies, evaluate promises, apply rules, raise alerts: every 30 seconds until it is interrupted.

    Dagster's sensor of the same name does that while its daemon runs; both at once do no harm.

    Example: leads watch --once
    """
    from leads_pipeline.clock import SystemClock
    from leads_pipeline.flows import FlowContext
    from leads_pipeline.flows.watching import WATCH_SECONDS
    from leads_pipeline.flows.watching import watch as look
    from leads_pipeline.storage.database_clock import DatabaseClock
    from leads_pipeline.storage.open import open_database
    from leads_pipeline.telemetry import configure_logging

    settings = load_settings(config_file)
    if not once:
        configure_logging(level=logging.INFO)  # a service: it says what it does
    engine = open_database(settings)
    context = FlowContext(engine, settings, DatabaseClock(engine))
    clock, runner_id = SystemClock(), f"watch {socket.gethostname()}:{os.getpid()}"
    while True:
        began = clock.monotonic()
        report = look(context, runner_id=runner_id)
        if as_json:
            parts = [
                {"part": part.name, "seconds": round(part.seconds, 3), "did": part.words, "failed": part.failed}
                for part in report.parts
            ]
            click.echo(json.dumps({"at": clock.now().isoformat(), "parts": parts}))
        else:
            for part in report.parts:
                click.secho(f"{part.name:<12} {part.failed or part.words}", fg="red" if part.failed else None)
        if once:
            engine.dispose()
            raise click.exceptions.Exit(1 if report.failed else 0)
        clock.sleep(max(1.0, WATCH_SECONDS - (clock.monotonic() - began)))
