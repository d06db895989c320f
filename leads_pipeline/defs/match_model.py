"""The asset ``matching_model``: each tenant's own matching model, learned anew from what its leads look like by now.

Nothing serves because it was trained here: somebody reads its report and runs ``leads matching activate``. Belongs to
the code location ``analytics``, whose runs nobody waits for.
"""

from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from leads_pipeline.defs.metadata import markdown_table
from leads_pipeline.defs.runs import LONG_BACKGROUND, SERIAL_TAG, unless_under_way
from leads_pipeline.defs.shield import LOST_CONNECTION, shielded
from leads_pipeline.domain.stage import Stage
from leads_pipeline.errors import LeadsError
from leads_pipeline.flows import FlowContext
from leads_pipeline.matching.report import weights_markdown
from leads_pipeline.steps.match_models import report
from leads_pipeline.steps.trained_match_model import TrainedModel, has_enough_records, train_match_model
from leads_pipeline.storage.schema import SCHEMA

MATCHING_MODEL = "matching_model"
ACTOR = "schedule:matching_model"


class MatchingModelConfig(dg.Config):
    """Whose models are trained."""

    tenants: list[str] = Field(default=[], description="By name; all of leads.yaml if empty.")
    seed: int = Field(default=1, description="The same leads and seed give the same model.")


@dg.asset(
    name=MATCHING_MODEL,
    group_name="identity",
    deps=[str(Stage.DEDUPED_LEADS)],
    kinds={"python", "postgres", "splink", "duckdb"},
    owners=["team:leads"],
    tags={"personal_data": "no"},
    metadata={"dagster/table_name": f"{SCHEMA}.match_models"},
    retry_policy=LOST_CONNECTION,
)
def matching_model(
    context: dg.AssetExecutionContext, config: MatchingModelConfig, flow: dg.ResourceParam[FlowContext]
) -> dg.MaterializeResult[None]:
    """Match weights learned without labels from a tenant's leads, compared with the model that serves. It is kept
    with its report, and serves once somebody activates it.
    """
    trained: dict[str, TrainedModel] = {}
    with shielded("matching_model learns from the tenants' leads"):
        from leads_pipeline.matching.training import adapt  # noqa: PLC0415 - Splink and DuckDB, for this run alone

        if unknown := sorted(set(config.tenants) - set(flow.settings.tenants)):
            known = ", ".join(flow.settings.tenants)
            raise LeadsError(f"leads.yaml knows no tenant {', '.join(unknown)}; there are: {known}")
        wanted = config.tenants or list(flow.settings.tenants)
        ready = [tenant for tenant in wanted if has_enough_records(flow.engine, tenant)]
        for tenant in ready:
            trained[tenant] = train_match_model(
                flow.engine,
                tenant,
                settings=flow.settings.matching,
                learn=adapt,
                actor=ACTOR,
                clock=flow.clock,
                seed=config.seed,
                progress=context.log.info,
            )
        reports = {tenant: _write_report(flow, tenant, model.version) for tenant, model in trained.items()}
    return dg.MaterializeResult(metadata=_metadata(trained, reports, too_few=sorted(set(wanted) - set(ready))))


def _write_report(flow: FlowContext, tenant: str, version: str) -> Path:
    path = flow.settings.state_path / "reports" / f"matching-{tenant}-{version}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(report(flow.engine, tenant, version, settings=flow.settings.matching), encoding="utf-8")
    return path


def _metadata(trained: dict[str, TrainedModel], reports: dict[str, Path], *, too_few: list[str]) -> dict[str, Any]:
    metadata: dict[str, Any] = {"models": len(trained), "tenants_with_too_few_records": len(too_few)}
    if trained:
        metadata["trained"] = markdown_table(
            ("tenant", "model", "records", "weights moved", "pairs held out", "decides as before", "s"),
            [
                (
                    tenant,
                    model.version,
                    f"{model.figures['records']:,}",
                    len(model.figures["moved"]),
                    f"{model.figures['agreement']['pairs']:,}",
                    _percent(model.figures["agreement"]["share"]),
                    model.figures["seconds"],
                )
                for tenant, model in trained.items()
            ],
        )
    for tenant, model in trained.items():
        metadata[f"weights_{tenant}"] = dg.MetadataValue.md(weights_markdown(model.parameters))
        metadata[f"report_{tenant}"] = dg.MetadataValue.path(reports[tenant])
    if too_few:
        metadata["too_few_records"] = ", ".join(too_few)
    return metadata


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


matching_model_training = dg.define_asset_job(
    "matching_model_training",
    selection=dg.AssetSelection.assets(matching_model),
    tags={SERIAL_TAG: "matching_model_training", "dagster/priority": "-20", **LONG_BACKGROUND},
    description="Learns each tenant's matching model anew; activating one stays with a person.",
)

matching_model_weekly = dg.ScheduleDefinition(
    name="matching_model_weekly",
    job=matching_model_training,
    # In the night from Saturday to Sunday, beside the hours of the marts and the batch lane.
    cron_schedule="40 3 * * 0",
    execution_fn=unless_under_way(matching_model_training.name),
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="A matching model a week, for those who switch it on.",
)
