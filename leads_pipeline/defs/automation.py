"""What runs when: the jobs, the sensor for micro-batches, the schedules.

The database holds the truth about what waits, so neither a cursor nor a ``run_key`` does: a ``run_key`` is honoured
once ever, failed runs included, and would leave a failed run's leads waiting for good. The sensor asks again at its
next tick; after several runs in a row that came to nothing it asks less and less often, up to every five minutes.
Two runs of one job are harmless (rows are claimed with ``skip locked``) but pointless, so at most one is in flight.
"""

from collections.abc import Iterator
from contextlib import closing

import dagster as dg

from leads_pipeline.buffer.queues import RedisWatch
from leads_pipeline.clock import SystemClock
from leads_pipeline.crm.parking import open_doors, parked_now
from leads_pipeline.defs.assets import ASSETS, lanes_config
from leads_pipeline.defs.checks import (
    OLDEST_PENDING,
    SLO_CHECKS,
    conservation,
    delivery_success,
    rejection_rate,
    schema_drift,
)
from leads_pipeline.defs.expectations import expectations
from leads_pipeline.defs.runs import SERIAL_TAG, has_unfinished_run, setbacks
from leads_pipeline.defs.shield import shielded
from leads_pipeline.defs.validation_checks import quality_holds, validation_rules
from leads_pipeline.domain.stage import ALL_LANES, Lane, Stage
from leads_pipeline.flows import FlowContext
from leads_pipeline.storage.measurements import stages_due

HOT_LANES = (Lane.REAL_TIME, Lane.NEAR_REAL_TIME)

# The daemon starts a tick every 5 s at best. Waiting inside the tick closes most of that gap: a lead that comes while
# the tick waits is picked up within half a second. Two seconds are left so that ticks do not pile up.
WAIT_SECONDS = 3.0
POLL_SECONDS = 0.5

_ALL = dg.AssetSelection.assets(*ASSETS)
# The SLO checks read whole tables: twelve times an hour is enough, a micro-batch does not repeat them.
_SCHEDULED_ONLY = dg.AssetSelection.checks(
    conservation, *OLDEST_PENDING, rejection_rate, schema_drift, delivery_success, quality_holds
)
# One set of rules: Great Expectations for the batch lane, SQL for the hot chain.
_EXPECTATIONS = dg.AssetSelection.checks(expectations)
_RULES_IN_SQL = dg.AssetSelection.checks(validation_rules)


def _serial(name: str, **tags: str) -> dict[str, str]:
    return {SERIAL_TAG: name, **tags}


near_real_time = dg.define_asset_job(
    "near_real_time",
    selection=_ALL - _SCHEDULED_ONLY - _EXPECTATIONS,
    config=lanes_config(HOT_LANES),
    tags=_serial("near_real_time", **{"dagster/priority": "10"}),
    description="A micro-batch: all that waits in the real-time and near-real-time lanes, as far as the CRM takes it.",
)

batch = dg.define_asset_job(
    "batch",
    selection=_ALL - _SCHEDULED_ONLY - _RULES_IN_SQL,
    config=lanes_config((Lane.BATCH,)),
    tags=_serial("batch", **{"dagster/priority": "-10"}),
    description="The batch lane. What Great Expectations is not content with is held before it is matched.",
)

all_lanes = dg.define_asset_job(
    "all_lanes",
    selection=_ALL,
    config=lanes_config(ALL_LANES),
    tags=_serial("all_lanes"),
    description="Everything that waits, in every lane, with every check: for a person at the UI.",
)

slo_checks = dg.define_asset_job(
    "slo_checks",
    selection=dg.AssetSelection.checks(*SLO_CHECKS, quality_holds),
    tags=_serial("slo_checks"),
    description="Only the checks that hold the pipeline to its SLOs; they fail when it has stopped.",
)


@dg.sensor(
    name="leads_waiting",
    job=near_real_time,
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=1,
    description="Starts a micro-batch as soon as the database says that something urgent waits.",
)
def leads_waiting(
    context: dg.SensorEvaluationContext, flow: dg.ResourceParam[FlowContext]
) -> dg.RunRequest | dg.SkipReason:
    """The database holds the truth. What Dagster knows only says whether asking again would help now."""
    if has_unfinished_run(context.instance, near_real_time.name, now=flow.clock.now()):
        return dg.SkipReason("a run is under way; it takes what has come meanwhile")
    earlier = setbacks(context.instance, near_real_time.name)
    pause_ends = earlier.pause_ends()
    if pause_ends is not None and flow.clock.now() < pause_ends:
        return dg.SkipReason(f"the last {earlier.runs} runs came to nothing; asking again at {pause_ends:%H:%M:%S} UTC")
    with shielded("leads_waiting asks what is due"):
        due = next((stages for stages in _looks(flow) if stages), ())
    if not due:
        return dg.SkipReason("nothing urgent is due")
    return dg.RunRequest(tags={"leads/due": ",".join(due)})


def _looks(flow: FlowContext) -> Iterator[tuple[Stage, ...]]:
    """What is due, again and again until the tick has waited long enough."""
    settings = flow.settings
    parked = parked_now(flow.engine, settings=settings, now=flow.clock.now())
    doors = open_doors(settings, parked=parked)
    deadline = flow.clock.monotonic() + WAIT_SECONDS
    with closing(RedisWatch(settings)) as redis:
        while True:
            with flow.engine.connect() as connection:
                due = stages_due(
                    connection,
                    tenants=list(settings.tenants),
                    doors=doors,
                    lanes=HOT_LANES,
                    now=flow.clock.now(),
                )
            if Stage.RAW_LEADS not in due and redis.has_leads(lanes=HOT_LANES):
                due = (Stage.RAW_LEADS, *due)
            yield due
            if flow.clock.monotonic() >= deadline:
                return
            flow.clock.sleep(POLL_SECONDS)


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


JOBS = (near_real_time, batch, all_lanes, slo_checks)
SENSORS = (leads_waiting,)
SCHEDULES = (batch_hourly, slo_checks_every_five_minutes)
