"""The job ``replay``: a day's leads go through the pipeline once more; a window of days is a backfill.

It comes behind everything else: a background job with the lowest priority, in the batch lane, one day at a time. A day
that failed is run again from the UI; leads that its backfill has put back already are not put back twice.
"""

from enum import Enum

import dagster as dg
from pydantic import Field

from leads_pipeline import flows
from leads_pipeline.defs.metadata import counts_table
from leads_pipeline.defs.runs import LONG_BACKGROUND, SERIAL_TAG
from leads_pipeline.defs.shield import LOST_CONNECTION, shielded
from leads_pipeline.domain.stage import Stage
from leads_pipeline.flows import FlowContext
from leads_pipeline.storage.replays import Window

FIRST_DAY = "2025-01-01"
DAYS = dg.DailyPartitionsDefinition(start_date=FIRST_DAY, end_offset=1)
_BACKFILL_TAG = "dagster/backfill"


class ReplayFrom(Enum):
    """From which stage on."""

    validated = Stage.VALIDATED_LEADS
    golden = Stage.GOLDEN_CONTACTS


class ReplayConfig(dg.Config):
    """What is replayed of the day."""

    stage: ReplayFrom = Field(default=ReplayFrom.validated, description="Judge leads anew, or only make contacts anew.")
    tenant: str | None = Field(default=None, description="Only this tenant's leads.")
    dry_run: bool = Field(default=False, description="Only count.")


@dg.op(retry_policy=LOST_CONNECTION, description="Puts a day's leads back, portion by portion, and works them off.")
def replay_day(context: dg.OpExecutionContext, config: ReplayConfig, flow: dg.ResourceParam[FlowContext]) -> None:
    day = context.partition_time_window
    run = context.run
    # One backfill is one replay of each day, however often a day is run again; so is a run with its re-executions.
    replay_id = f"{run.tags.get(_BACKFILL_TAG) or run.root_run_id or run.run_id} {context.partition_key}"
    with shielded("replay puts leads back"):
        if config.tenant is not None and config.tenant not in flow.settings.tenants:
            known = ", ".join(flow.settings.tenants)
            raise dg.Failure(f"leads.yaml has no tenant {config.tenant!r}; it has: {known}", allow_retries=False)
        report = flows.replay(
            flow,
            Window(day.start, day.end, config.tenant),
            stage=config.stage.value,
            replay_id=replay_id,
            actor=f"dagster run {run.run_id}",
            runner_id=run.run_id,
            dry_run=config.dry_run,
            # Also a sign of life: see defs.sweep.
            on_portion=lambda so_far: context.log.info(_words(so_far, config)),
        )
    context.add_output_metadata(
        {
            "seen": report.seen,
            "put_back": report.put_back,
            "rejected_now": report.rejected_now,
            "counts": counts_table(report.counts),
        }
    )
    if report.rejected_now:
        context.log.warning(
            "%s leads had passed before and are rejected now. Their contacts stay as they were, here and at the CRM; "
            "`leads rejected list` names the leads",
            f"{report.rejected_now:,}",
        )


def _words(so_far: flows.ReplayReport, config: ReplayConfig) -> str:
    what = "leads" if config.stage is ReplayFrom.validated else "contacts"
    did = "would go through once more" if config.dry_run else "went through once more"
    return f"{so_far.seen:,} leads of the day looked at so far; {so_far.put_back:,} {what} {did}"


@dg.job(
    partitions_def=DAYS,
    description="A day's leads once more, in the batch lane: launch a backfill for a window of days. A day that is "
    "shown as missing was never replayed; none of its leads is missing.",
    tags={SERIAL_TAG: "replay", "dagster/priority": "-30", **LONG_BACKGROUND},
)
def replay() -> None:
    replay_day()
