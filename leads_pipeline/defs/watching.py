"""The pipeline looks at itself every half minute: a sensor that starts no run.

A run would cost a process for a second's work, and a stopped queue would stop it too. What rules do is written down as
an observation of the asset that it is about, so that it stands in the asset's history with its cause. Keep out: what is
looked at (``flows.watching``).
"""

from collections.abc import Mapping

import dagster as dg

from leads_pipeline.defs.shield import shielded
from leads_pipeline.domain.orders import ActionKind
from leads_pipeline.domain.stage import Stage
from leads_pipeline.flows import FlowContext
from leads_pipeline.flows.watching import WATCH_SECONDS, WatchReport, watch
from leads_pipeline.steps.applied_policies import Acted
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)

_VERIFICATIONS = "verifications"

# On which asset's history an action is found.
ASSET_OF: Mapping[ActionKind, str] = {
    ActionKind.SHED_ENRICHMENT: _VERIFICATIONS,
    ActionKind.LOWER_TIER: _VERIFICATIONS,
    ActionKind.RESIZE_CHUNKS: Stage.RAW_LEADS,
    ActionKind.SLOW_IMPORTS: Stage.RAW_LEADS,
    ActionKind.REFUSE_BATCH: Stage.RAW_LEADS,
    ActionKind.SCALE_WORKERS: Stage.RAW_LEADS,
    ActionKind.PAUSE_LANE: Stage.CRM_SYNC_BATCHES,
    ActionKind.PAUSE_DESTINATION: Stage.CRM_SYNC_BATCHES,
}


@dg.sensor(
    name="watch",
    # It asks for no run; Dagster wants to know which it could ask for.
    asset_selection=dg.AssetSelection.assets(Stage.RAW_LEADS),
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=int(WATCH_SECONDS),
    description="Looks at the pipeline itself: latencies, promises, rules that act, alerts. Starts no run.",
)
def watch_sensor(context: dg.SensorEvaluationContext, flow: dg.ResourceParam[FlowContext]) -> dg.SkipReason:
    """Each part by itself; the tick says what came of each, and fails only if every one did."""
    with shielded("watch looks at the pipeline"):
        report = watch(flow, runner_id="sensor watch")
    _observe(context, report)
    if report.parts and len(report.failed) == len(report.parts):
        raise dg.Failure(description=f"watch could not look at anything: {report.words()}")
    return dg.SkipReason(report.words())


def _observe(context: dg.SensorEvaluationContext, report: WatchReport) -> None:
    """Have what began and ended stand with the asset. Our own table has it already; this is for the UI."""
    policies = report.policies
    if policies is None:
        return
    told = [("began", acted) for acted in policies.began] + [("ended", acted) for acted in policies.ended]
    for what, acted in told:
        try:
            context.instance.report_runless_asset_event(observation(what, acted))
        except Exception as error:  # noqa: BLE001 - Dagster's storage is not what a rule depends on
            log.warning("policy_not_observed", policy=acted.policy, error_type=type(error).__name__)


def observation(what: str, acted: Acted) -> dg.AssetObservation:
    """What a rule did, for the history of the asset that it is about."""
    metadata: dict[str, str | float | bool] = {
        "policy": acted.policy,
        "what": f"{acted.action} {what}",
        "target": acted.target or "everything",
        "action_id": str(acted.action_id),
        "dry_run": acted.is_dry,
        **{f"cause_{name}": value for name, value in acted.cause.items()},
    }
    if acted.ending is not None:
        metadata["ended_for"] = str(acted.ending)
    return dg.AssetObservation(
        asset_key=ASSET_OF[ActionKind(acted.action)],
        description=f"policy {acted.policy}: {acted.action} {what} for {acted.target or 'everything'}",
        metadata=metadata,
        tags={"leads/policy": acted.policy},
    )


WATCH_SENSORS = (watch_sensor,)
