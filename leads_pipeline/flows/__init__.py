"""The order of the steps, without Dagster: the assets, the demo and a worker share it.

The first four stages are drained (``draining``), deliveries are planned and carried out (``deliveries``), look-ups
are made beside them (``lookups``). Keep out what a step does.
"""

from leads_pipeline.flows.context import FlowContext
from leads_pipeline.flows.deliveries import PLAN_LIMIT, deliver, leads_on_their_way, plan_sync, urgent_stages_due
from leads_pipeline.flows.draining import DRAINED_STAGES, StageFailed, StageSummary, drain
from leads_pipeline.flows.lookups import lookups_due, reverify, verify
from leads_pipeline.flows.replaying import ReplayReport, replay

__all__ = [
    "DRAINED_STAGES",
    "PLAN_LIMIT",
    "FlowContext",
    "ReplayReport",
    "StageFailed",
    "StageSummary",
    "deliver",
    "drain",
    "leads_on_their_way",
    "lookups_due",
    "plan_sync",
    "replay",
    "reverify",
    "urgent_stages_due",
    "verify",
]
