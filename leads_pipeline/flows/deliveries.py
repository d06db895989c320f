"""Deliveries: what is due at the destinations, and sending it."""

from collections.abc import Sequence
from datetime import timedelta

from leads_pipeline.domain.stage import Lane
from leads_pipeline.flows.context import FlowContext
from leads_pipeline.steps.checked_mappings import check_mappings
from leads_pipeline.steps.crm_sync_batches import SyncPlan, SyncReport
from leads_pipeline.steps.crm_sync_batches import deliver as deliver_plan
from leads_pipeline.steps.crm_sync_batches import plan_sync as plan_due
from leads_pipeline.steps.destination_backfill import fill_destinations
from leads_pipeline.storage.database import translated_errors

# Records that one run offers to the CRMs: at 100 a request and 10 requests a second, five minutes' work.
PLAN_LIMIT = 300_000

# For how long one plan fills destinations that were added: what was due before waits behind it.
FILL_BUDGET = timedelta(seconds=20)


def plan_sync(context: FlowContext, *, lanes: Sequence[Lane]) -> SyncPlan:
    """The outbox rows of ``lanes`` that are due now, most urgent first. Claims nothing.

    With the batch lane, destinations that leads.yaml names since lately are filled first, for a while.
    """
    with translated_errors("crm_sync_batches looks for what is due"):
        if Lane.BATCH in lanes:
            fill_destinations(context.engine, settings=context.settings, clock=context.clock, budget=FILL_BUDGET)
        return plan_due(
            context.engine,
            settings=context.settings,
            lanes=tuple(lanes),
            limit=PLAN_LIMIT,
            now=context.clock.now(),
        )


def deliver(context: FlowContext, plan: SyncPlan, *, runner_id: str) -> SyncReport:
    """Send what ``plan`` names, inside every account's limits; each record is settled on its own verdict.

    A destination that nobody has asked for its fields for an hour is asked first.
    """
    with translated_errors("crm_sync_batches delivers"):
        check_mappings(
            context.engine,
            settings=context.settings,
            clock=context.clock,
            runner_id=runner_id,
            destinations=plan.by_destination,
        )
        return deliver_plan(context.engine, plan, settings=context.settings, clock=context.clock, runner_id=runner_id)
