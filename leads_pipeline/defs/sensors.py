"""What is asked for as soon as it waits: a micro-batch, a delivery, look-ups.

The database holds the truth about what waits, so neither a cursor nor a ``run_key`` does: a ``run_key`` is honoured
once ever, failed runs included, and would leave a failed run's leads waiting for good. A sensor asks again at its
next tick; after several runs in a row that came to nothing it asks less and less often, up to every five minutes.
Keep out: what a run does (``defs.jobs``).
"""

from collections.abc import Callable, Collection
from contextlib import closing
from functools import partial

import dagster as dg

from leads_pipeline.buffer.queues import RedisWatch
from leads_pipeline.crm.parking import open_doors, parked_now
from leads_pipeline.crm.quality_gate import anything_goes_on, split_doors
from leads_pipeline.defs.jobs import delivery, near_real_time, verification
from leads_pipeline.defs.runs import asked_for, reason_to_wait, setbacks
from leads_pipeline.defs.shield import shielded
from leads_pipeline.domain.stage import ALL_LANES, HOT_LANES, Stage
from leads_pipeline.flows import FlowContext, lookups_due, urgent_stages_due
from leads_pipeline.steps.destination_backfill import doors_of
from leads_pipeline.storage.bulk_jobs import jobs_due
from leads_pipeline.storage.claim_owners import release_dead_claims
from leads_pipeline.storage.destination_doors import anything_to_fill
from leads_pipeline.storage.measurements import stages_due

# The daemon starts a tick every 5 s at best. Waiting inside the tick closes most of that gap: a lead that comes while
# the tick waits is picked up within half a second. Two seconds are left so that ticks do not pile up.
WAIT_SECONDS = 3.0
POLL_SECONDS = 0.5


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

    def look() -> tuple[Stage, ...]:
        with closing(RedisWatch(flow.settings)) as redis:
            return _first_due(flow, partial(_leads_due, flow, redis))

    return _asked(context, flow, near_real_time.name, look, nothing="nothing urgent is due")


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

    def look() -> tuple[Stage, ...]:
        return _first_due(flow, _DeliveriesDue(flow))

    return _asked(context, flow, delivery.name, look, nothing="nothing is due that may be sent now")


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
    nothing = "no look-up is due that anybody can be asked for"
    return _asked(context, flow, verification.name, partial(lookups_due, flow), nothing=nothing)


def _asked(
    context: dg.SensorEvaluationContext,
    flow: FlowContext,
    job: str,
    look: Callable[[], Collection[str]],
    *,
    nothing: str,
) -> dg.RunRequest | dg.SkipReason:
    """A run of a job for what ``look`` finds due; ``nothing``: what is said where that is nothing."""
    if (reason := reason_to_wait(context.instance, job, now=flow.clock.now())) is not None:
        return dg.SkipReason(reason)
    with shielded(f"the sensor of {job} asks what is due"):
        due = look()
    if not due:
        return dg.SkipReason(nothing)
    return dg.RunRequest(tags=asked_for(due, setbacks(context.instance, job)))


def _first_due(flow: FlowContext, due: Callable[[], tuple[Stage, ...]]) -> tuple[Stage, ...]:
    """What is due, looked for again and again until something is or the tick has waited long enough."""
    deadline = flow.clock.monotonic() + WAIT_SECONDS
    while True:
        found = due()
        if found or flow.clock.monotonic() >= deadline:
            return found
        flow.clock.sleep(POLL_SECONDS)


def _leads_due(flow: FlowContext, redis: RedisWatch) -> tuple[Stage, ...]:
    """The stages of the chain with something urgent that a run could take now."""
    due = urgent_stages_due(flow)
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
        doors = open_doors(settings, parked=parked, lanes=ALL_LANES)
        with flow.engine.connect() as connection:
            now = flow.clock.now()
            split = split_doors(connection, doors, settings=settings, now=now)
            # What a closed gate does not hold is looked for once a tick: for the rest no run would do anything.
            self._goes_on = bool(anything_goes_on(connection, split.held, settings=settings, now=now))
        self._doors = split.opened
        # A vendor may have finished a job; what is in it is claimed, and no row of the outbox is due.
        self._polls = bool(jobs.keys() & settings.destinations.keys() - parked.destinations.keys())

    def __call__(self) -> tuple[Stage, ...]:
        if not self._doors and not self._goes_on:
            return ()
        if self._fills or self._polls or self._goes_on:
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


SENSORS = (leads_waiting, deliveries_waiting, lookups_waiting)
