"""What is asked for by the clock, whether or not anything waits: the batch lane and the checks.

A schedule does not pile runs up: while one is under way it says so and waits for its next time. Keep out: what a run
does (``defs.jobs``), upkeep (``defs.maintenance``).
"""

import dagster as dg

from leads_pipeline.defs.jobs import batch, slo_checks
from leads_pipeline.defs.runs import unless_under_way

batch_hourly = dg.ScheduleDefinition(
    name="batch_hourly",
    job=batch,
    cron_schedule="0 * * * *",
    execution_fn=unless_under_way(batch.name),
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="The batch lane, every hour.",
)

slo_checks_every_five_minutes = dg.ScheduleDefinition(
    name="slo_checks_every_five_minutes",
    job=slo_checks,
    cron_schedule="*/5 * * * *",
    execution_fn=unless_under_way(slo_checks.name),
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="The SLO checks, whether or not anything else runs.",
)

SCHEDULES = (batch_hourly, slo_checks_every_five_minutes)
