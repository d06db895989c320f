"""The five assets: the four of the hot chain drain their stages, the fifth delivers; each reports counts.

An asset takes whatever is pending, not a batch: a run that dies leaves its leads where they were and the next run takes
them. Nothing passes from asset to asset in memory except the plan, which holds ids; leads meet in the database. Add an
asset when the flow gets a stage. Keep out: what a stage does (``steps``) and in which order chunks come (``flows``).
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from leads_pipeline import flows
from leads_pipeline.defs.latency_metadata import latency_metadata
from leads_pipeline.defs.metadata import counts_table, summary_metadata, table_metadata
from leads_pipeline.defs.resources import CRM_IO_MANAGER
from leads_pipeline.defs.runs import note_progress
from leads_pipeline.defs.shield import LOST_CONNECTION, shielded
from leads_pipeline.domain.latency import Station
from leads_pipeline.domain.stage import Lane, Stage
from leads_pipeline.flows import FlowContext, StageFailed
from leads_pipeline.steps.crm_sync_batches import SyncPlan

if TYPE_CHECKING:
    Drained = dg.MaterializeResult[None]
else:
    Drained = dg.MaterializeResult  # with checks in the result, Dagster knows only the bare class

# Its failure must not stop the assets below: they would skip every tenant's leads because of one tenant's chunk.
CHUNKS_TAKEN = "chunks_taken"


class LaneChoice(Enum):
    """``Lane`` for run configuration, where Dagster shows and checks the names of an enumeration's members."""

    real_time = Lane.REAL_TIME
    near_real_time = Lane.NEAR_REAL_TIME
    batch = Lane.BATCH


class LaneConfig(dg.Config):
    """Which lanes a run serves."""

    lanes: list[LaneChoice] = Field(
        default_factory=lambda: list(LaneChoice), description="The lanes to take leads from."
    )

    def chosen(self) -> tuple[Lane, ...]:
        return tuple(choice.value for choice in self.lanes)


class StageConfig(LaneConfig):
    """Which lanes a run of a stage serves, and for how long."""

    seconds: float | None = Field(
        default=None, gt=0, description="Take new chunks for so long; unset: pipeline.run_seconds."
    )


class DeliveryConfig(LaneConfig):
    """Which lanes a delivery serves, and whether it stays."""

    follow: bool = Field(
        default=False,
        description="Stay while urgent leads are due at the stages in front, and send their contacts at once.",
    )


# The batch lane's job runs every hour whether or not anything waits, at night too: older means that nothing runs. What
# is only run when something is due, deliveries and look-ups, may rest for a night and has no such policy.
_EVERY_HOUR = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=3), warn_window=timedelta(minutes=90))


def _stage_asset(
    stage: Stage, *, group: str, after: Stage | None, kinds: frozenset[str] = frozenset(), io_manager: str | None = None
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    return dg.asset(
        name=str(stage),
        group_name=group,
        deps=[str(after)] if after is not None else None,
        kinds={"python", "postgres", *kinds},
        owners=["team:leads"],
        tags={"personal_data": "no" if stage is Stage.CRM_SYNC_BATCHES else "yes"},
        metadata=table_metadata(stage),
        retry_policy=LOST_CONNECTION,
        io_manager_key=io_manager,
        check_specs=[_chunks_taken(stage)] if stage in flows.DRAINED_STAGES else None,
        freshness_policy=_EVERY_HOUR if stage in flows.DRAINED_STAGES else None,
    )


def _chunks_taken(stage: Stage) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        CHUNKS_TAKEN, asset=str(stage), description="No tenant's chunk failed; what a failed one held is pending again."
    )


def _drain(context: dg.AssetExecutionContext, config: StageConfig, flow: FlowContext, stage: Stage) -> Drained:
    failure: StageFailed | None = None
    with shielded(f"{stage} takes what is pending"):
        try:
            summary = flows.drain(
                flow, stage, lanes=config.chosen(), runner_id=context.run.run_id, seconds=config.seconds
            )
        except StageFailed as error:
            summary, failure = error.summary, error
        took = latency_metadata(flow, Station(stage))
    # A vendor that does not answer sets the time of the next question itself; the sensor need not slow down as well.
    if summary.taken > 0 or summary.asked > 0:
        note_progress(context.instance, context.run.run_id)
    check = dg.AssetCheckResult(
        check_name=CHUNKS_TAKEN,
        passed=failure is None,
        description=str(failure) if failure else None,
        metadata={"tenants_failed": len(failure.tenants) if failure else 0},
    )
    return Drained(metadata={**summary_metadata(summary), **took}, check_results=[check])


@_stage_asset(Stage.RAW_LEADS, group="intake", after=None)
def raw_leads(context: dg.AssetExecutionContext, config: StageConfig, flow: dg.ResourceParam[FlowContext]) -> Drained:
    """Every captured lead as it was sent, moved out of the capture buffer together with its consent statements."""
    return _drain(context, config, flow, Stage.RAW_LEADS)


@_stage_asset(Stage.VALIDATED_LEADS, group="intake", after=Stage.RAW_LEADS)
def validated_leads(
    context: dg.AssetExecutionContext, config: StageConfig, flow: dg.ResourceParam[FlowContext]
) -> Drained:
    """Leads with normalised e-mail, phone, names and company. Unusable ones go to `rejected_leads` with all reasons."""
    return _drain(context, config, flow, Stage.VALIDATED_LEADS)


@_stage_asset(Stage.DEDUPED_LEADS, group="identity", after=Stage.VALIDATED_LEADS, kinds=frozenset({"duckdb"}))
def deduped_leads(
    context: dg.AssetExecutionContext, config: StageConfig, flow: dg.ResourceParam[FlowContext]
) -> Drained:
    """Which contact each lead belongs to: by rule, or by Splink's match weight over candidates from the key index."""
    return _drain(context, config, flow, Stage.DEDUPED_LEADS)


@_stage_asset(Stage.GOLDEN_CONTACTS, group="identity", after=Stage.DEDUPED_LEADS)
def golden_contacts(
    context: dg.AssetExecutionContext, config: StageConfig, flow: dg.ResourceParam[FlowContext]
) -> Drained:
    """One row per person, each field with its origin. What the CRMs should hold is set in the same transaction."""
    return _drain(context, config, flow, Stage.GOLDEN_CONTACTS)


@_stage_asset(
    Stage.CRM_SYNC_BATCHES,
    group="delivery",
    after=Stage.GOLDEN_CONTACTS,
    kinds=frozenset({"http"}),
    io_manager=CRM_IO_MANAGER,
)
def crm_sync_batches(config: DeliveryConfig, flow: dg.ResourceParam[FlowContext]) -> dg.MaterializeResult[SyncPlan]:
    """The contacts that are due at a CRM. The rate-limited CRM I/O manager delivers them and reports how it ended."""
    with shielded("crm_sync_batches plans what is due"):
        plan = flows.plan_sync(flow, lanes=config.chosen(), follow=config.follow)
    metadata: dict[str, Any] = {
        "planned": sum(plan.by_destination.values()),
        "planned_by_destination": counts_table(plan.by_destination),
        "parked_destinations": len(plan.parked.destinations),
    }
    return dg.MaterializeResult(value=plan, metadata=metadata)


CHAIN: tuple[dg.AssetsDefinition, ...] = (raw_leads, validated_leads, deduped_leads, golden_contacts)
ASSETS: tuple[dg.AssetsDefinition, ...] = (*CHAIN, crm_sync_batches)


def chain_config(lanes: Sequence[Lane], *, seconds: float | None = None) -> dict[str, StageConfig]:
    """The configuration under which each asset of the chain serves these lanes, by asset."""
    return {str(stage): StageConfig(lanes=_choices(lanes), seconds=seconds) for stage in flows.DRAINED_STAGES}


def delivery_config(lanes: Sequence[Lane], *, follow: bool = False) -> dict[str, DeliveryConfig]:
    """The configuration under which these lanes are delivered."""
    return {str(Stage.CRM_SYNC_BATCHES): DeliveryConfig(lanes=_choices(lanes), follow=follow)}


def _choices(lanes: Sequence[Lane]) -> list[LaneChoice]:
    return [LaneChoice(lane) for lane in lanes]
