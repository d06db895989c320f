"""``leads run``: the chain, here and now, without Dagster's daemon."""

import json
import os
from pathlib import Path

import click

from leads_pipeline.config import load_settings
from leads_pipeline.domain.stage import Stage


@click.command()
@click.option(
    "--job",
    "job_name",
    type=click.Choice(["all_lanes", "near_real_time", "batch"]),
    default="all_lanes",
    show_default=True,
    help="The job to run.",
)
@click.option("--marts", is_flag=True, help="Then build the marts for analysts with dbt.")
@click.option("--limit", "limit_seconds", default=1800.0, show_default=True, help="Give up after so many seconds.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write the runs to a file.")
@click.pass_obj
def run(config_file: str | None, job_name: str, marts: bool, limit_seconds: float, json_path: Path | None) -> None:
    """Run a Dagster job in this process until nothing is pending that it serves.

    ``all_lanes`` delivers what the chain has made; after the others ``leads deliver --once`` does.

    The runs stand in Dagster's storage and UI like those of the daemon. Safe beside the daemon, and safe to repeat.
    """
    from leads_pipeline.services.stack import Stack
    from leads_pipeline.storage.open import open_database

    settings = load_settings(config_file)
    engine = open_database(settings)
    stack = Stack(settings)
    stack.prepare()
    os.environ.update(stack.environment())  # Dagster finds its instance, and the resources their settings, there

    import dagster as dg

    from leads_pipeline.definitions import build_defs
    from leads_pipeline.defs.local_run import LocalRun, StillWaiting, run_once, run_until_idle
    from leads_pipeline.flows import FlowContext
    from leads_pipeline.storage.database_clock import DatabaseClock

    def say(done: LocalRun, waiting: StillWaiting) -> None:
        stages = ", ".join(f"{stage} {done.seconds[stage]:.1f} s" for stage in Stage if stage in done.seconds)
        checks = f"{done.passed_checks} checks passed"
        refused = f" ({waiting.refused})" if waiting.refused else ""
        fetched = f"; {waiting.to_fetch:,} until their vendor is asked again who they are" if waiting.to_fetch else ""
        click.echo(f"run {done.run_id[:8]}: {stages}; {checks}; {waiting.count:,} still wait{refused}{fetched}")
        for check, why in done.failed_checks.items():
            click.secho(f"  check failed: {check}{f' ({why})' if why else ''}", fg="yellow")

    with dg.DagsterInstance.get() as instance:
        runs = run_until_idle(
            build_defs().resolve_job_def(job_name),
            instance,
            FlowContext(engine, settings, DatabaseClock(engine)),
            limit_seconds=limit_seconds,
            on_run=say,
        )
        if not runs:
            click.echo("Nothing was pending.")
        engine.dispose()
        if marts:
            from leads_pipeline import analytics

            click.echo("Building the marts with dbt …")
            defs = analytics.build_defs(analytics.prepare(settings.state_path))
            runs.append(run_once(defs.resolve_job_def("marts"), instance))
    if json_path:
        found = [
            {"run_id": done.run_id, "seconds": done.seconds, "failed_checks": list(done.failed_checks)} for done in runs
        ]
        json_path.write_text(json.dumps(found, indent=2), encoding="utf-8")
