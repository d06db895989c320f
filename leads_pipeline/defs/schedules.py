"""What is asked for by the clock, whether or not anything waits: the batch lane and the checks.

A schedule does not pile runs up: while one is under way it says so and waits for its next time. Keep out: what a run
does (``defs.jobs``), upkeep (``defs.maintenance``).
"""

import dagster as dg

from leads_pipeline.clock import SystemClock
from leads_pipeline.defs.jobs import batch, slo_checks
from leads_pipeline.defs.runs import has_unfinished_run


@dg.schedule(
    job=batch,
    cron_schedule="0 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="The batch lane, every hour.",
)
def batch_hourly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    return _unless_under_way(context, batch.name)


@dg.schedule(
    job=slo_checks,
    cron_schedule="*/5 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="The SLO checks, whether or not anything else runs.",
)
def slo_checks_every_five_minutes(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    return _unless_under_way(context, slo_checks.name)


def _unless_under_way(context: dg.ScheduleEvaluationContext, job_name: str) -> dg.RunRequest | dg.SkipReason:
    if has_unfinished_run(context.instance, job_name, now=SystemClock().now()):
        return dg.SkipReason("the last run is still under way; it takes what has come meanwhile")
    return dg.RunRequest()


SCHEDULES = (batch_hourly, slo_checks_every_five_minutes)
