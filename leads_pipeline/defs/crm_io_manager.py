"""The rate-limited CRM I/O manager: it delivers the plan that ``crm_sync_batches`` returns.

A plan holds ids, never contacts. If a delivery fails, Dagster repeats the whole step, plan included; that is safe
because the outbox settles each record by itself and what was delivered is no longer due. Keep out: verdicts, limits and
retries of single records, which are rows with their own due time.
"""

from typing import Never

import dagster as dg

from leads_pipeline import flows
from leads_pipeline.defs.delivery_metadata import report_metadata
from leads_pipeline.defs.latency_metadata import latency_metadata
from leads_pipeline.defs.runs import note_progress
from leads_pipeline.defs.shield import shielded
from leads_pipeline.domain.latency import Station
from leads_pipeline.flows import FlowContext
from leads_pipeline.steps.crm_sync_batches import SyncPlan


class CrmIOManager(dg.ConfigurableIOManager):
    """Delivers what is planned, inside every account's limits, and reports how it ended."""

    flow: dg.ResourceDependency[FlowContext]

    def handle_output(self, context: dg.OutputContext, obj: SyncPlan) -> None:
        with shielded("crm_sync_batches delivers"):
            coming = obj.follow and flows.leads_on_their_way(self.flow)
            report = flows.deliver(self.flow, obj, runner_id=context.run_id)
            took = latency_metadata(self.flow, Station.DELIVERED)
        context.add_output_metadata({**report_metadata(report), **took})
        # A run that was started for leads on their way is no setback if none of them was to be sent.
        if coming or report.delivered + report.unchanged + report.retried + report.dead > 0:
            note_progress(context.step_context.instance, context.run_id)

    def load_input(self, context: dg.InputContext) -> Never:
        raise dg.DagsterInvariantViolationError(
            "crm_sync_batches cannot be loaded: what it delivered is in the CRM. Read the tables outbox, "
            "crm_sync_batches and sync_attempts, or depend on it with deps=."
        )
