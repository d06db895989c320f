"""Every promise as an asset check: one evaluation judges them all, and each says what it found.

The checks of the default promises have names of their own; those that leads.yaml adds are told together, one check for
each asset that they are about, because a code location is loaded without reading leads.yaml. A check fails while its
promise burns, is broken, or was not judged for too long, so that a pipeline, or an evaluation, that stands still fails
it. Keep out: how a promise is judged (``steps.evaluated_slos``).
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from leads_pipeline.config import ObjectiveSettings, Settings
from leads_pipeline.config.objectives import DEFAULTS
from leads_pipeline.defs.metadata import markdown_table
from leads_pipeline.defs.shield import LOST_CONNECTION, shielded
from leads_pipeline.domain.burn_rate import SloVerdict
from leads_pipeline.domain.severity import Severity
from leads_pipeline.domain.stage import Stage
from leads_pipeline.flows import FlowContext
from leads_pipeline.steps.evaluated_slos import EvaluationReport, evaluate_slos, in_words
from leads_pipeline.storage.slos import Standing, read_verdicts

_BREACHED = (SloVerdict.BURNING, SloVerdict.BROKEN)
OWN = "slo_own"

# On which asset a promise of each stage, or measure, is found.
_ASSET_OF_STAGE: Mapping[str, Stage] = {
    "raw_leads": Stage.RAW_LEADS,
    "validated_leads": Stage.VALIDATED_LEADS,
    "verified": Stage.DEDUPED_LEADS,  # whose door a lead passes once its look-ups are over
    "deduped_leads": Stage.DEDUPED_LEADS,
    "golden_contacts": Stage.GOLDEN_CONTACTS,
    "delivered": Stage.CRM_SYNC_BATCHES,
}
_ASSET_OF_MEASURE: Mapping[str, Stage] = {
    "rejections": Stage.VALIDATED_LEADS,
    "bounces": Stage.CRM_SYNC_BATCHES,
    "conservation": Stage.CRM_SYNC_BATCHES,
    "duplicates": Stage.GOLDEN_CONTACTS,
    "measured": Stage.RAW_LEADS,
}


def asset_of(measure: str, stage: str) -> Stage:
    """The asset that a promise is about."""
    return _ASSET_OF_STAGE[stage] if measure == "latency" else _ASSET_OF_MEASURE[measure]


def check_name(promise: str) -> str:
    """What the check of a default promise is called."""
    return f"slo_{promise}"


def _specs() -> list[dg.AssetCheckSpec]:
    named = {name: ObjectiveSettings.model_validate(default) for name, default in DEFAULTS.items()}
    return [
        *(
            dg.AssetCheckSpec(
                check_name(name), asset=str(asset_of(item.measure, item.stage)), description=f"{item.words}."
            )
            for name, item in named.items()
        ),
        *(
            dg.AssetCheckSpec(OWN, asset=str(stage), description="What else leads.yaml promises of this asset.")
            for stage in Stage
        ),
    ]


@dg.multi_asset_check(
    name="slos",
    specs=_specs(),
    description="Judges every promise of slos.objectives, writes verdicts, history and gates.",
    retry_policy=LOST_CONNECTION,
    can_subset=True,  # who materialises one asset at the UI asks for its checks alone
)
def slos(context: dg.AssetCheckExecutionContext, flow: dg.ResourceParam[FlowContext]) -> Iterable[dg.AssetCheckResult]:
    with shielded("slos are judged"):
        report = evaluate_slos(flow.engine, settings=flow.settings, clock=flow.clock, runner_id=context.run.run_id)
        with flow.engine.connect() as connection:
            found = read_verdicts(connection)
    asked_for = context.selected_asset_check_keys
    yield from (item for item in results(flow.settings, report, found) if _key(item) in asked_for)


def _key(result: dg.AssetCheckResult) -> dg.AssetCheckKey:
    assert result.asset_key is not None
    assert result.check_name is not None
    return dg.AssetCheckKey(result.asset_key, result.check_name)


def results(settings: Settings, report: EvaluationReport, found: Sequence[Standing]) -> list[dg.AssetCheckResult]:
    """What each check says of the promises as they stand."""
    promises = settings.slos.promises
    by_name = {name: [item for item in found if item.key.slo == name] for name in promises}
    told = []
    for name, default in DEFAULTS.items():
        stage = asset_of(str(default["measure"]), str(default.get("stage", "delivered")))
        known = {name: promises[name]} if name in promises else {}
        told.append(_result(check_name(name), stage, known, by_name, report, settings))
    for stage in Stage:
        own = {
            name: item
            for name, item in promises.items()
            if name not in DEFAULTS and asset_of(item.measure, item.stage) is stage
        }
        told.append(_result(OWN, stage, own, by_name, report, settings))
    return told


def _result(
    check: str,
    stage: Stage,
    promises: Mapping[str, ObjectiveSettings],
    by_name: Mapping[str, Sequence[Standing]],
    report: EvaluationReport,
    settings: Settings,
) -> dg.AssetCheckResult:
    if not promises:
        return dg.AssetCheckResult(check_name=check, asset_key=str(stage), passed=True, description="nothing promised")
    standing = [item for name in promises for item in by_name[name]]
    stale_after = timedelta(seconds=settings.slos.stale_seconds)
    stale = [item for item in standing if item.is_stale(report.evaluated_at, after=stale_after)]
    unjudged = [name for name in promises if name in report.failed and (stale or not by_name[name])]
    breached = [item for item in standing if item.verdict in _BREACHED]
    pages = any(item.severity is Severity.PAGE for item in breached)
    words = [
        f"{item.key.slo}{f' ({item.key.tenant})' if item.key.tenant else ''} is {item.verdict}: "
        f"{in_words(item, promises[item.key.slo])}"
        for item in breached
    ]
    words += [f"{name} was not judged: {report.failed[name]}" for name in promises if name in report.failed]
    playbooks = sorted({item.playbook for name, item in promises.items() if item.playbook and _is_in(name, breached)})
    return dg.AssetCheckResult(
        check_name=check,
        asset_key=str(stage),
        passed=not breached and not unjudged and not stale,
        severity=dg.AssetCheckSeverity.ERROR if pages else dg.AssetCheckSeverity.WARN,
        description="; ".join(words) or "; ".join(item.words for item in promises.values()),
        metadata={
            **_numbers(standing),
            "breached": len(breached),
            "stale": len(stale),
            **({"playbook": f"docs/playbooks/{playbooks[0]}.md"} if playbooks else {}),
            "verdicts": _verdicts_table(standing, promises),
            **_windows(standing),
        },
    )


def _is_in(name: str, breached: Sequence[Standing]) -> bool:
    return any(item.key.slo == name for item in breached)


def _numbers(standing: Sequence[Standing]) -> dict[str, Any]:
    """Plotted over time: the worst of the tenants, and what happened to all of them."""
    found: dict[str, Any] = {"good": sum(item.good for item in standing), "bad": sum(item.bad for item in standing)}
    burns = [item.burn_rate for item in standing if item.burn_rate is not None]
    left = [item.budget_left for item in standing if item.budget_left is not None]
    judged = [item for item in standing if item.value is not None]
    if burns:
        found["burn_rate"] = float(max(burns))
    if left:
        found["budget_left"] = float(min(left))
    if judged:
        worst = min(judged, key=lambda item: (item.verdict not in _BREACHED, item.budget_left or 0.0))
        found["value"] = float(worst.value or 0.0)
    return found


def _verdicts_table(
    standing: Iterable[Standing], promises: Mapping[str, ObjectiveSettings]
) -> dg.MarkdownMetadataValue:
    return markdown_table(
        ("promise", "tenant", "verdict", "severity", "came to", "since (UTC)"),
        (
            (
                item.key.slo,
                item.key.tenant or "all",
                item.verdict,
                item.severity or "",
                in_words(item, promises[item.key.slo]),
                f"{item.since:%Y-%m-%d %H:%M}",
            )
            for item in standing
        ),
    )


def _windows(standing: Sequence[Standing]) -> dict[str, dg.MarkdownMetadataValue]:
    rows = [
        (
            item.key.slo,
            item.key.tenant or "all",
            f"{window['window_seconds'] / 60:g} min",
            window["burn"],
            f"{window['short_seconds'] / 60:g} min",
            window["short_burn"],
            window["threshold"],
            window["severity"],
            "burns" if window["burning"] else "holds" if window["telling"] else "too few events",
        )
        for item in standing
        for window in item.burn_rates
    ]
    header = ("promise", "tenant", "long", "burn", "short", "burn", "from", "severity", "state")
    return {"windows": markdown_table(header, rows)} if rows else {}
