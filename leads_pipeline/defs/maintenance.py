"""What must be done once a day so that the product can run for years: partitions ahead, old bookkeeping gone.

Dagster keeps every run's events for good (about 80 KB a run); its retention settings cover only ticks, so old runs are
deleted here. Latest materialisations survive that. Keep out: anything that a person must decide.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

import dagster as dg

from leads_pipeline.defs.runs import FINISHED, SERIAL_TAG
from leads_pipeline.defs.shield import LOST_CONNECTION, shielded
from leads_pipeline.flows import FlowContext
from leads_pipeline.storage.ingest import purge_ingest_keys
from leads_pipeline.storage.partitions import ensure_partitions
from leads_pipeline.storage.source_fields import forget_unused_fields

# How long a job's runs are kept. A job that starts often is of interest for a short time.
RUNS_KEPT: Mapping[str, timedelta] = {"slo_checks": timedelta(days=2), "near_real_time": timedelta(days=7)}
OTHER_RUNS_KEPT = timedelta(days=30)

# A sender can invent names, and only so many are remembered: those of long ago make room.
UNUSED_FIELDS_KEPT = timedelta(days=90)

# A deletion takes about 30 ms: one day's pruning ends within two minutes, the rest is done the next day.
RUNS_PRUNED_AT_ONCE = 4_000


@dg.op(retry_policy=LOST_CONNECTION, description="Creates the monthly partitions that the next leads need.")
def make_partitions(context: dg.OpExecutionContext, flow: dg.ResourceParam[FlowContext]) -> None:
    with shielded("maintenance makes partitions"), flow.engine.begin() as connection:
        made = ensure_partitions(connection, now=flow.clock.now())
    context.add_output_metadata({"made": len(made)})


@dg.op(retry_policy=LOST_CONNECTION, description="Forgets posts that are older than retention.ingest_keys_days.")
def prune_ingest_keys(context: dg.OpExecutionContext, flow: dg.ResourceParam[FlowContext]) -> None:
    until = flow.clock.now() - timedelta(days=flow.settings.retention.ingest_keys_days)
    pruned = 0
    with shielded("maintenance prunes ingest_keys"):
        while found := _purge_some(flow, until):
            pruned += found
    context.add_output_metadata({"pruned": pruned})


def _purge_some(flow: FlowContext, until: datetime) -> int:
    with flow.engine.begin() as connection:
        return purge_ingest_keys(connection, received_before=until)


@dg.op(retry_policy=LOST_CONNECTION, description="Forgets fields of sources that nothing uses and that no longer come.")
def prune_source_fields(context: dg.OpExecutionContext, flow: dg.ResourceParam[FlowContext]) -> None:
    with shielded("maintenance prunes source_fields"), flow.engine.begin() as connection:
        pruned = forget_unused_fields(connection, last_seen_before=flow.clock.now() - UNUSED_FIELDS_KEPT)
    context.add_output_metadata({"pruned": pruned})


@dg.op(description="Deletes runs that are older than their job's runs are kept.")
def prune_runs(context: dg.OpExecutionContext, flow: dg.ResourceParam[FlowContext]) -> None:
    pruned = delete_old_runs(context.instance, now=flow.clock.now(), limit=RUNS_PRUNED_AT_ONCE)
    context.add_output_metadata({"pruned": pruned})


def delete_old_runs(instance: dg.DagsterInstance, *, now: datetime, limit: int) -> int:
    """Delete finished runs past their time, oldest first, at most ``limit``. Returns how many."""
    names = [*RUNS_KEPT, None]
    pruned = 0
    for name in names:
        until = now - (RUNS_KEPT[name] if name is not None else OTHER_RUNS_KEPT)
        filters = dg.RunsFilter(job_name=name, created_before=until, statuses=FINISHED)
        for record in instance.get_run_records(filters, limit=limit - pruned, ascending=True):
            instance.delete_run(record.dagster_run.run_id)
            pruned += 1
        if pruned >= limit:
            break
    return pruned


@dg.job(
    description="Daily upkeep: partitions ahead, expired bookkeeping and old runs gone.",
    tags={SERIAL_TAG: "maintenance", "dagster/priority": "-20"},
)
def maintenance() -> None:
    make_partitions()
    prune_ingest_keys()
    prune_source_fields()
    prune_runs()


maintenance_daily = dg.ScheduleDefinition(
    name="maintenance_daily",
    job=maintenance,
    cron_schedule="30 3 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Upkeep, once a night.",
)
