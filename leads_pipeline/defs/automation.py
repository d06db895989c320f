"""What runs when: the jobs, the sensors for micro-batches and for look-ups, the schedules.

The database holds the truth about what waits, so neither a cursor nor a ``run_key`` does: a ``run_key`` is honoured
once ever, failed runs included, and would leave a failed run's leads waiting for good. A sensor asks again at its
next tick; after several runs in a row that came to nothing it asks less and less often, up to every five minutes.
Deliveries are a job beside the chain: the next leads are matched while contacts are sent, and a CRM that hardly
answers keeps no lead waiting.
Two runs of one job are harmless (rows are claimed with ``skip locked``) but pointless, so at most one is in flight.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

import dagster as dg

from leads_pipeline.buffer.queues import RedisWatch
from leads_pipeline.clock import SystemClock
from leads_pipeline.crm.parking import open_doors, parked_now
from leads_pipeline.defs.assets import ASSETS, CHAIN, chain_config, crm_sync_batches, delivery_config
from leads_pipeline.defs.checks import (
    OLDEST_PENDING,
    SLO_CHECKS,
    conservation,
    delivery_success,
    duplicate_emails,
    record_keys,
    rejection_rate,
    schema_drift,
)
from leads_pipeline.defs.delivery_checks import DELIVERY_CHECKS
from leads_pipeline.defs.expectations import LANES_TAG, expectations
from leads_pipeline.defs.runs import SERIAL_TAG, has_unfinished_run, reason_to_wait
from leads_pipeline.defs.shield import shielded
from leads_pipeline.defs.validation_checks import quality_holds, validation_rules
from leads_pipeline.defs.verification import VERIFICATIONS, VerificationConfig, verifications
from leads_pipeline.defs.verification_checks import VERIFICATION_CHECKS
from leads_pipeline.domain.stage import ALL_LANES, HOT_LANES, Lane, Stage
from leads_pipeline.flows import FlowContext, lookups_due
from leads_pipeline.steps.destination_backfill import doors_of
from leads_pipeline.storage.bulk_jobs import jobs_due
from leads_pipeline.storage.claim_owners import release_dead_claims
from leads_pipeline.storage.destination_doors import anything_to_fill
from leads_pipeline.storage.measurements import stages_due

# The daemon starts a tick every 5 s at best. Waiting inside the tick closes most of that gap: a lead that comes while
# the tick waits is picked up within half a second. Two seconds are left so that ticks do not pile up.
WAIT_SECONDS = 3.0
POLL_SECONDS = 0.5

# How long a run that serves every lane looks up.
SECONDS_BESIDE_THE_CHAIN = 20.0

# How long each stage of a micro-batch takes chunks while more comes than it can take: the stages behind it, and
# deliveries, have something to do meanwhile, and an urgent lead waits for no more than this at each.
SLICE_SECONDS = 20.0

_ALL = dg.AssetSelection.assets(*ASSETS)
_CHAIN = dg.AssetSelection.assets(*CHAIN)
# The SLO checks read whole tables: twelve times an hour is enough, a micro-batch does not repeat them.
_SCHEDULED_ONLY = dg.AssetSelection.checks(
    conservation,
    *OLDEST_PENDING,
    rejection_rate,
    schema_drift,
    record_keys,
    delivery_success,
    quality_holds,
    *DELIVERY_CHECKS,
)
_VERIFICATION_CHECKS = dg.AssetSelection.checks(*VERIFICATION_CHECKS)
# One set of rules: Great Expectations for the batch lane, SQL for the hot chain.
_EXPECTATIONS = dg.AssetSelection.checks(expectations)
_RULES_IN_SQL = dg.AssetSelection.checks(validation_rules)


def _serial(name: str, **tags: str) -> dict[str, str]:
    return {SERIAL_TAG: name, **tags}


def _every_lane_config() -> dg.RunConfig:
    # The assets below come after it in this process: leads whose patience has ended are not to wait for the rest.
    look_ups = {VERIFICATIONS: VerificationConfig(seconds=SECONDS_BESIDE_THE_CHAIN)}
    return dg.RunConfig(ops={**chain_config(ALL_LANES), **delivery_config(ALL_LANES), **look_ups})


near_real_time = dg.define_asset_job(
    "near_real_time",
    selection=_CHAIN - _SCHEDULED_ONLY - _EXPECTATIONS,
    config=dg.RunConfig(ops=dict(chain_config(HOT_LANES, seconds=SLICE_SECONDS))),
    tags=_serial("near_real_time", **{"dagster/priority": "10"}),
    description="A micro-batch: what waits in the real-time and near-real-time lanes becomes golden contacts.",
)

delivery = dg.define_asset_job(
    "delivery",
    # The blocking check stands in front of it here as well: Dagster asks it although the chain is not in this job.
    selection=(dg.AssetSelection.assets(crm_sync_batches) - _SCHEDULED_ONLY)
    | dg.AssetSelection.checks(duplicate_emails, *DELIVERY_CHECKS),
    config=dg.RunConfig(ops=dict(delivery_config(ALL_LANES, follow=True))),
    tags=_serial("delivery", **{"dagster/priority": "10"}),
    description="Sends what is due to the CRMs, each lane in its share, and stays while urgent leads are on their way.",
)

batch = dg.define_asset_job(
    "batch",
    selection=_CHAIN - _SCHEDULED_ONLY - _RULES_IN_SQL,
    config=dg.RunConfig(ops=dict(chain_config((Lane.BATCH,)))),
    tags=_serial("batch", **{"dagster/priority": "-10", LANES_TAG: str(Lane.BATCH)}),
    description="The batch lane. What Great Expectations is not content with is held before it is matched.",
)

all_lanes = dg.define_asset_job(
    "all_lanes",
    selection=_ALL | dg.AssetSelection.assets(verifications),
    config=_every_lane_config(),
    tags=_serial("all_lanes"),
    description="Everything that waits, in every lane, with every check: for a person at the UI.",
)

# Not a part of the micro-batch: a provider that takes a minute would hold up leads that need none.
verification = dg.define_asset_job(
    "verification",
    selection=dg.AssetSelection.assets(verifications),  # with its checks: without, each run would blank their verdict
    tags=_serial("verification"),
    description="Looks up what leads still wait for: at DNS and at providers, inside their limits and budgets.",
)

slo_checks = dg.define_asset_job(
    "slo_checks",
    selection=dg.AssetSelection.checks(*SLO_CHECKS, quality_holds, *VERIFICATION_CHECKS, *DELIVERY_CHECKS),
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
    if (reason := reason_to_wait(context.instance, near_real_time.name, now=flow.clock.now())) is not None:
        return dg.SkipReason(reason)
    with shielded("leads_waiting asks what is due"), closing(RedisWatch(flow.settings)) as redis:
        due = next((stages for stages in _looks(flow, partial(_leads_due, flow, redis)) if stages), ())
    if not due:
        return dg.SkipReason("nothing urgent is due")
    return dg.RunRequest(tags={"leads/due": ",".join(due)})


@dg.sensor(
    name="deliveries_waiting",
    job=delivery,
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=1,
    description="Starts a delivery when something is due at a CRM that may be asked now, or urgent leads are coming.",
)
def deliveries_waiting(
    context: dg.SensorEvaluationContext, flow: dg.ResourceParam[FlowContext]
) -> dg.RunRequest | dg.SkipReason:
    """With urgent leads on their way it need not be due yet: the run has started when the first of them is."""
    if (reason := reason_to_wait(context.instance, delivery.name, now=flow.clock.now())) is not None:
        return dg.SkipReason(reason)
    with shielded("deliveries_waiting asks what is due"):
        due = next((stages for stages in _looks(flow, _DeliveriesDue(flow)) if stages), ())
    if not due:
        return dg.SkipReason("nothing is due that may be sent now")
    return dg.RunRequest(tags={"leads/due": ",".join(due)})


@dg.sensor(
    name="lookups_waiting",
    job=verification,
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=5,
    description="Starts a run of look-ups when one is due that somebody can be asked for now.",
)
def lookups_waiting(
    context: dg.SensorEvaluationContext, flow: dg.ResourceParam[FlowContext]
) -> dg.RunRequest | dg.SkipReason:
    """It need not be as quick as ``leads_waiting``: a lead waits for its look-ups longer than for a micro-batch."""
    if (reason := reason_to_wait(context.instance, verification.name, now=flow.clock.now())) is not None:
        return dg.SkipReason(reason)
    with shielded("lookups_waiting asks what is due"):
        due = lookups_due(flow)
    if not due:
        return dg.SkipReason("no look-up is due that anybody can be asked for")
    return dg.RunRequest(tags={"leads/due": ",".join(due)})


def _looks(flow: FlowContext, due: Callable[[], tuple[Stage, ...]]) -> Iterator[tuple[Stage, ...]]:
    """What is due, again and again until the tick has waited long enough."""
    deadline = flow.clock.monotonic() + WAIT_SECONDS
    while True:
        yield due()
        if flow.clock.monotonic() >= deadline:
            return
        flow.clock.sleep(POLL_SECONDS)


def _leads_due(flow: FlowContext, redis: RedisWatch) -> tuple[Stage, ...]:
    """The stages of the chain with something urgent that a run could take now."""
    with flow.engine.connect() as connection:
        due = stages_due(
            connection, tenants=list(flow.settings.tenants), doors=(), lanes=HOT_LANES, now=flow.clock.now()
        )
    if Stage.RAW_LEADS not in due and redis.has_leads(lanes=HOT_LANES):
        due = (Stage.RAW_LEADS, *due)
    return due


class _DeliveriesDue:
    """What is due at destinations that may be asked. What is parked, to be filled or in a job is asked once a tick."""

    def __init__(self, flow: FlowContext) -> None:
        settings = flow.settings
        self._flow = flow
        with flow.engine.connect() as connection:
            self._fills = anything_to_fill(connection, doors_of(settings))
            jobs = jobs_due(connection, now=flow.clock.now())
        parked = parked_now(flow.engine, settings=settings, now=flow.clock.now())
        self._doors = open_doors(settings, parked=parked, lanes=ALL_LANES)
        # A vendor may have finished a job; what is in it is claimed, and no row of the outbox is due.
        self._polls = bool(jobs.keys() & settings.destinations.keys() - parked.destinations.keys())

    def __call__(self) -> tuple[Stage, ...]:
        if not self._doors:
            return ()
        if self._fills or self._polls:
            return (Stage.CRM_SYNC_BATCHES,)
        flow = self._flow
        with flow.engine.begin() as connection:
            release_dead_claims(connection, now=flow.clock.now())
            return stages_due(
                connection,
                tenants=list(flow.settings.tenants),
                doors=self._doors,
                lanes=HOT_LANES,
                now=flow.clock.now(),
            )


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


JOBS = (near_real_time, delivery, batch, all_lanes, verification, slo_checks)
SENSORS = (leads_waiting, deliveries_waiting, lookups_waiting)
SCHEDULES = (batch_hourly, slo_checks_every_five_minutes)
