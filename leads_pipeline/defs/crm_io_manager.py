"""The rate-limited CRM I/O manager: it delivers the plan that ``crm_sync_batches`` returns.

A plan holds ids, never contacts. If a delivery fails, Dagster repeats the whole step, plan included; that is safe
because the outbox settles each record by itself and what was delivered is no longer due. Keep out: verdicts, limits and
retries of single records, which are rows with their own due time.
"""

from dataclasses import fields
from typing import Any, Never

import dagster as dg

from leads_pipeline import flows
from leads_pipeline.defs.metadata import markdown_table
from leads_pipeline.defs.runs import note_progress
from leads_pipeline.defs.shield import shielded
from leads_pipeline.domain.quota_budget import Budget, BudgetPlan
from leads_pipeline.domain.stage import Lane
from leads_pipeline.flows import FlowContext
from leads_pipeline.steps.crm_sync_batches import SyncPlan, SyncReport


class CrmIOManager(dg.ConfigurableIOManager):
    """Delivers what is planned, inside every account's limits, and reports how it ended."""

    flow: dg.ResourceDependency[FlowContext]

    def handle_output(self, context: dg.OutputContext, obj: SyncPlan) -> None:
        with shielded("crm_sync_batches delivers"):
            coming = obj.follow and flows.leads_on_their_way(self.flow)
            report = flows.deliver(self.flow, obj, runner_id=context.run_id)
        context.add_output_metadata(report_metadata(report))
        # A run that was started for leads on their way is no setback if none of them was to be sent.
        if coming or report.delivered + report.unchanged + report.retried + report.dead > 0:
            note_progress(context.step_context.instance, context.run_id)

    def load_input(self, context: dg.InputContext) -> Never:
        raise dg.DagsterInvariantViolationError(
            "crm_sync_batches cannot be loaded: what it delivered is in the CRM. Read the tables outbox, "
            "crm_sync_batches and sync_attempts, or depend on it with deps=."
        )


def _budget_row(name: str, plan: BudgetPlan, budget: Budget) -> tuple[object, ...]:
    until = f"{budget.resets_at:%Y-%m-%d %H:%M} UTC" if budget.resets_at is not None else "24 h after each request"
    return (name, budget.left, *(plan.allowances[lane] for lane in Lane), budget.foreign, until)


def report_metadata(report: SyncReport) -> dict[str, Any]:
    """The report's numbers by name, what is left of each quota included, so that Dagster plots them."""
    metadata: dict[str, Any] = {
        item.name: value for item in fields(report) if isinstance(value := getattr(report, item.name), int | float)
    }
    metadata |= {f"{name} quota left": left for name, left in report.quota_remaining.items()}
    metadata |= {f"requests {lane}": count for lane, count in report.requests_by_lane.items()}
    budgets = [_budget_row(name, plan, plan.budget) for name, plan in report.budgets.items() if plan.budget]
    if budgets:
        metadata |= {f"{name} day left": left for name, left, *_rest in budgets}
        header = ("destination", "left", *(f"for {lane}" for lane in Lane), "used by others", "until")
        metadata["quota of the day"] = markdown_table(header, budgets)
    if report.parked:
        metadata["parked"] = markdown_table(
            ("destination", "until", "why"), ((name, item.until, item.reason) for name, item in report.parked.items())
        )
    return metadata
