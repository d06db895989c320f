"""``leads runs``: how the runs of each job went, and asking for one again that was given up."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from leads_pipeline.cli._audit import ACTOR
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import load_settings
from leads_pipeline.telemetry import get_logger

if TYPE_CHECKING:
    import dagster as dg

    from leads_pipeline.defs.runs import Setbacks

log = get_logger(__name__)

# Those whose sensor asks less and less often after setbacks.
_JOBS = ("near_real_time", "delivery", "verification")


@click.group()
def runs() -> None:
    """Dagster's runs of the jobs that sensors ask for: how the last ones went, and asking again."""


@runs.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines instead of a table.")
@click.pass_obj
def list_runs(config_file: str | None, as_json: bool) -> None:
    """Show each job's setbacks in a row, and when its sensor asks again.

    Example: leads runs list

    Exits with 1 if a job was given up.
    """
    given_up = False
    with _instance(config_file) as instance:
        from leads_pipeline.defs.runs import reason_to_wait, setbacks

        now = SystemClock().now()
        for job in _JOBS:
            found = setbacks(instance, job)
            given_up = given_up or found.is_given_up
            why = reason_to_wait(instance, job, now=now)
            if as_json:
                told = {"job": job, "in_a_row": found.runs, "failed": found.failed, "given_up": found.is_given_up}
                click.echo(json.dumps({**told, "waits": why}))
            else:
                click.echo(f"{job:<16} {_words(found)}; {why or 'asks as soon as something is due'}")
    if given_up:
        raise click.exceptions.Exit(1)


@runs.command()
@click.argument("job", type=click.Choice(_JOBS))
@ACTOR
@click.pass_obj
def retry(config_file: str | None, job: str, actor: str) -> None:
    """Forget a job's setbacks: its sensor asks for a run at its next tick, if anything is due.

    Example: leads runs retry near_real_time --actor ada
    """
    with _instance(config_file) as instance:
        from leads_pipeline.defs.runs import ask_again

        ask_again(instance, job, now=SystemClock().now())
    log.warning("runs_asked_again", job=job, actor=actor)
    click.echo(f"{job}: asked again at the sensor's next tick, if anything is due")


def _words(found: "Setbacks") -> str:
    if not found.runs:
        return "the last run moved something, or there was none"
    if found.failed == found.runs:
        return f"{found.words} failed"
    newest = {0: "", 1: ", the newest failed"}.get(found.failed, f", the newest {found.failed} failed")
    return f"{found.words} came to nothing{newest}"


@contextmanager
def _instance(config_file: str | None) -> Iterator["dg.DagsterInstance"]:
    from leads_pipeline.services.stack import Stack
    from leads_pipeline.storage.open import open_database

    settings = load_settings(config_file)
    open_database(settings).dispose()  # starts the embedded server if need be
    stack = Stack(settings)
    stack.prepare()
    os.environ.update(stack.environment())  # Dagster finds its instance there

    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        yield instance
