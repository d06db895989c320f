"""Deliveries: what is due at the destinations, and sending it."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from functools import partial

from leads_pipeline.crm.parking import Forecasts
from leads_pipeline.domain.stage import HOT_LANES, Lane, Stage
from leads_pipeline.flows.context import FlowContext
from leads_pipeline.steps.checked_mappings import check_mappings
from leads_pipeline.steps.crm_sync_batches import SyncPlan, SyncReport
from leads_pipeline.steps.crm_sync_batches import deliver as deliver_plan
from leads_pipeline.steps.crm_sync_batches import plan_sync as plan_due
from leads_pipeline.steps.destination_backfill import doors_of, fill_destinations
from leads_pipeline.storage.database import translated_errors
from leads_pipeline.storage.left_over import left_over
from leads_pipeline.storage.measurements import stages_due
from leads_pipeline.storage.orders import orders_in_force
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)

# Records that one run offers to the CRMs: at 100 a request and 10 requests a second, five minutes' work.
PLAN_LIMIT = 300_000

# For how long one plan fills destinations that were added, and for how long while something waits to be sent.
FILL_BUDGET = timedelta(seconds=20)
FILL_BUDGET_BESIDE = timedelta(seconds=0.5)


def plan_sync(
    context: FlowContext, *, lanes: Sequence[Lane], follow: bool = False, forecasts: Forecasts | None = None
) -> SyncPlan:
    """What is due at the destinations now, in ``lanes``. Claims nothing. ``follow``: see ``SyncPlan``.

    With the batch lane, destinations that leads.yaml names since lately are filled for a while; what is due already
    does not wait for that. ``forecasts``: of whoever plans again and again.
    """

    def due() -> SyncPlan:
        return plan_due(
            context.engine,
            settings=context.settings,
            lanes=tuple(lanes),
            limit=PLAN_LIMIT,
            now=context.clock.now(),
            forecasts=forecasts,
        )

    with translated_errors("crm_sync_batches looks for what is due"):
        plan = due()
        if Lane.BATCH in lanes:
            budget = FILL_BUDGET_BESIDE if plan.by_destination else FILL_BUDGET
            filled = fill_destinations(context.engine, settings=context.settings, clock=context.clock, budget=budget)
            if filled.wanted and not plan.by_destination:
                plan = due()
    return replace(plan, follow=follow)


def name_left_over(context: FlowContext) -> None:
    """Log what waits for destinations that leads.yaml no longer gives to its tenants: nobody delivers it."""
    with translated_errors("crm_sync_batches looks for what is left over"), context.engine.connect() as connection:
        for item in left_over(connection, doors_of(context.settings)):
            log.warning("deliveries_left_over", **asdict(item))


def deliver(context: FlowContext, plan: SyncPlan, *, runner_id: str) -> SyncReport:
    """Send what ``plan`` names, inside every account's limits; each record is settled on its own verdict.

    A destination that nobody has asked for its fields for an hour is asked before its first batch.
    """

    def check_mapping(destination: str) -> None:
        check_mappings(
            context.engine,
            settings=context.settings,
            clock=context.clock,
            runner_id=runner_id,
            destinations=(destination,),
        )

    with translated_errors("crm_sync_batches delivers"):
        return deliver_plan(
            context.engine,
            plan,
            settings=context.settings,
            clock=context.clock,
            runner_id=runner_id,
            prepare=check_mapping,
            measure=context.measure,
            more_to_come=partial(leads_on_their_way, context) if plan.follow else None,
        )


def leads_on_their_way(context: FlowContext) -> bool:
    """Whether an urgent lead is due at a stage in front of delivery. The batch lane's wait for their schedule."""
    return bool(urgent_stages_due(context))


def urgent_stages_due(context: FlowContext) -> tuple[Stage, ...]:
    """The stages in front of delivery with something urgent that may be taken now: not of lanes that a rule pauses."""
    now, found = context.clock.now(), set[Stage]()
    with context.engine.connect() as connection:
        orders = orders_in_force(connection, now=now)
        for lanes, tenants in orders.by_open_lanes(context.settings.tenants, HOT_LANES).items():
            found.update(stages_due(connection, tenants=tenants, doors=(), lanes=lanes, now=now))
    return tuple(stage for stage in Stage if stage in found)
