"""Great Expectations over the validated leads that are about to be matched, source by source and day by day.

What it examines is what it would hold back: the batch lane's leads that wait at the door of ``deduped_leads``. A group
(a source's leads of one day of receipt, in UTC) that breaks a rule is held there, alone; the run goes on with the
others. Only if nothing else is left to do, or the table is not as this version knows it, does the check end the run.

Great Expectations takes five CPU-seconds to import, so that happens inside the check and the near-real-time job leaves
the check out. Results are reduced to counts: its reports quote values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from leads_pipeline.crm.parking import Parking, open_doors, parked_now
from leads_pipeline.defs.data_docs import Page, write_data_docs
from leads_pipeline.defs.metadata import markdown_table
from leads_pipeline.defs.shield import LOST_CONNECTION, shielded
from leads_pipeline.domain.expectations import USUAL_COUNTRY, Group, Kind, Rule
from leads_pipeline.domain.stage import ALL_LANES, Lane, Stage
from leads_pipeline.flows import FlowContext
from leads_pipeline.steps.quality import Held, Standard, hold_back, standards
from leads_pipeline.storage.measurements import stages_due
from leads_pipeline.storage.quality import columns_expected, columns_found
from leads_pipeline.storage.validated_sample import EXAMINED_COLUMNS, rows_to_examine

ROWS_PER_GROUP = 10_000

# A job that serves one lane says so in this tag of its runs.
LANES_TAG = "leads/lane"

# What is left for a run to do behind this check; deliveries only in the job that serves every lane.
_BEHIND = (Stage.DEDUPED_LEADS, Stage.GOLDEN_CONTACTS)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one rule found in one group's rows: counts, or for a drift the share that was seen. No values."""

    group: Group
    rule: Rule
    rows: int
    unexpected: int
    observed: float | None
    met: bool


@dataclass(frozen=True, slots=True)
class Examined:
    """The outcomes of one examination, and Great Expectations' own reports of it, for its data docs."""

    outcomes: Sequence[Outcome]
    pages: Sequence[Page]

    @property
    def broken(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if not outcome.met]


@dg.asset_check(
    asset=str(Stage.VALIDATED_LEADS),
    name="expectations",
    description="Great Expectations over leads about to be matched, per source and day: schema, formats, ranges, null "
    "rates, drift. What breaks a rule is held; everything else goes on.",
    blocking=True,
    retry_policy=LOST_CONNECTION,
)
def expectations(context: dg.AssetCheckExecutionContext, flow: dg.ResourceParam[FlowContext]) -> dg.AssetCheckResult:
    now, settings = flow.clock.now(), flow.settings
    with shielded("expectations examines validated leads"):
        with flow.engine.connect() as connection:
            lacking = sorted(set(columns_expected()) - set(columns_found(connection)))
        if lacking:
            return _wrong_table(lacking)
        with flow.engine.connect() as connection:
            rows = rows_to_examine(connection, limit_per_group=ROWS_PER_GROUP, now=now)
            held_to = standards(connection, _counted(rows), settings=settings, now=now)
        examined = examine(rows, held_to)
        broken: dict[Group, list[str]] = {}
        for outcome in examined.broken:
            broken.setdefault(outcome.group, []).append(outcome.rule.name)
        held = hold_back(flow.engine, broken, examined=held_to.keys(), runner_id=context.run.run_id, now=now)
        goes_on = bool(_due_behind(flow, context.run))
        docs = write_data_docs(settings.state_path / "data_docs", examined.pages, run_id=context.run.run_id, now=now)
    return dg.AssetCheckResult(
        passed=not held.groups,
        severity=dg.AssetCheckSeverity.WARN if goes_on else dg.AssetCheckSeverity.ERROR,
        description=_description(held, goes_on=goes_on),
        metadata={
            "rows": len(rows),
            "groups": len(held_to),
            "groups_held": len(held.groups),
            "groups_released": len(held.released),
            "groups_passed_again": len(held.passed),
            "expectations": len(examined.outcomes),
            "expectations_broken": len(examined.broken),
            "unexpected_values": sum(outcome.unexpected for outcome in examined.broken),
            **({"broken": _outcomes_table(examined.broken, held)} if examined.broken else {}),
            **(_links(docs) if docs else {}),
        },
    )


def examine(rows: Sequence[Mapping[str, Any]], held_to: Mapping[Group, Standard]) -> Examined:
    """Hold each group's rows against its suite. ``rows`` have ``EXAMINED_COLUMNS``."""
    if not rows:
        return Examined((), ())
    import great_expectations as gx  # noqa: PLC0415 - see the module's docstring
    import pandas as pd  # noqa: PLC0415
    from great_expectations.data_context.types.base import ProgressBarsConfig  # noqa: PLC0415

    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(False)
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    definition = (
        context.data_sources.add_pandas("validated_leads")
        .add_dataframe_asset("source_and_day")
        .add_batch_definition_whole_dataframe("rows")
    )
    outcomes: list[Outcome] = []
    pages: list[Page] = []
    frame = pd.DataFrame(list(rows), columns=list(EXAMINED_COLUMNS))
    for key, found in frame.groupby(["tenant", "source", "day"], sort=True):
        group = Group(*key)
        standard = held_to[group]
        part = found.assign(**{USUAL_COUNTRY: found["country"] == standard.usual_country}).reset_index(drop=True)
        suite = gx.ExpectationSuite(name=str(group), expectations=[_expectation(gx, rule) for rule in standard.rules])
        report = definition.get_batch({"dataframe": part}).validate(
            suite, result_format={"result_format": "BASIC", "partial_unexpected_count": 0}
        )
        rules = {rule.name: rule for rule in standard.rules}
        judged = [_outcome(group, rules, result, rows=len(part)) for result in report.results]
        outcomes.extend(judged)
        broken = tuple(item.rule.name for item in judged if not item.met)
        pages.append(Page(group, report, rows=len(part), rules=len(judged), broken=broken))
    return Examined(outcomes, pages)


def _expectation(gx: Any, rule: Rule) -> Any:
    """The expectation that a rule is; ``storage.quality`` has its condition in SQL."""
    expect = gx.expectations
    named = {"meta": {"rule": rule.name}}
    match rule.kind:
        case Kind.PRESENT:
            return expect.ExpectColumnValuesToNotBeNull(column=rule.column, **named)
        case Kind.HOLDS:
            return expect.ExpectColumnValuesToBeInSet(column=rule.column, value_set=[True], **named)
        case Kind.MATCHES:
            return expect.ExpectColumnValuesToMatchRegex(column=rule.column, regex=rule.pattern, **named)
        case Kind.AT_MOST:
            return expect.ExpectColumnValueLengthsToBeBetween(column=rule.column, max_value=rule.high, **named)
        case Kind.BETWEEN:
            return expect.ExpectColumnValuesToBeBetween(
                column=rule.column, min_value=rule.low, max_value=rule.high, **named
            )
        case Kind.ONE_OF:
            return expect.ExpectColumnValuesToBeInSet(column=rule.column, value_set=list(rule.allowed), **named)
        case Kind.FILLED:
            return expect.ExpectColumnValuesToNotBeNull(column=rule.column, mostly=rule.low, **named)
        case Kind.SHARE:
            return expect.ExpectColumnMeanToBeBetween(
                column=rule.column, min_value=rule.low, max_value=rule.high, **named
            )


def _outcome(group: Group, rules: Mapping[str, Rule], result: Any, *, rows: int) -> Outcome:
    rule = rules[result.expectation_config.meta["rule"]]
    found = result.result.get("unexpected_count")
    observed: float | None = None
    if rule.kind is Kind.SHARE and (mean := result.result.get("observed_value")) is not None:
        observed = float(mean)
    elif rule.kind is Kind.FILLED and found is not None:
        observed = 1 - int(found) / rows
    return Outcome(
        group=group,
        rule=rule,
        rows=rows,
        # An expectation about the rows together, or one that raised, counts no values.
        unexpected=int(found) if found is not None and not rule.is_drift else 0,
        observed=observed,
        met=bool(result.success),
    )


def _counted(rows: Sequence[Mapping[str, Any]]) -> dict[Group, int]:
    counts: dict[Group, int] = {}
    for row in rows:
        group = Group(row["tenant"], row["source"], row["day"])
        counts[group] = counts.get(group, 0) + 1
    return counts


def _lanes_of(run: dg.DagsterRun) -> tuple[Lane, ...]:
    """The lanes that the run serves behind this check: as chosen in the Launchpad, else as its job has them."""
    ops: Any = run.run_config.get("ops") or {}
    chosen = ops.get(str(Stage.DEDUPED_LEADS), {}).get("config", {}).get("lanes")
    if chosen:
        return tuple(Lane(name) for name in chosen)
    # Dagster does not write a job's own configuration into the run.
    return (Lane(run.tags[LANES_TAG]),) if LANES_TAG in run.tags else ALL_LANES


def _due_behind(flow: FlowContext, run: dg.DagsterRun) -> list[Stage]:
    """The stages of the run behind this check that have something to do, held leads left out."""
    settings, now, lanes = flow.settings, flow.clock.now(), _lanes_of(run)
    delivers = LANES_TAG not in run.tags
    parked = parked_now(flow.engine, settings=settings, now=now) if delivers else Parking()
    doors = open_doors(settings, parked=parked, lanes=lanes) if delivers else []
    with flow.engine.connect() as connection:
        due = stages_due(connection, tenants=list(settings.tenants), doors=doors, lanes=lanes, now=now)
    return [stage for stage in due if stage in _BEHIND or stage is Stage.CRM_SYNC_BATCHES]


def _links(docs: Path) -> dict[str, dg.MetadataValue[Any]]:
    """Both, because a browser follows no link from a page of the network to a file: the path is there to be copied."""
    return {"data_docs": dg.MetadataValue.url(docs.as_uri()), "data_docs_path": dg.MetadataValue.path(docs)}


def _wrong_table(lacking: Sequence[str]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=False,
        description="validated_leads is not as this version knows it: run `leads db upgrade`. Nothing is matched.",
        metadata={"columns_lacking": markdown_table(("column",), ((column,) for column in lacking))},
    )


def _description(held: Held, *, goes_on: bool) -> str | None:
    if not held.groups:
        return None
    names = ", ".join(str(group) for group in held.groups)
    rest = "all else goes on" if goes_on else "nothing else waits"
    return f"held back from matching: {names}; {rest}. `leads quality list` shows why and how to let them pass"


def _outcomes_table(outcomes: Sequence[Outcome], held: Held) -> dg.MarkdownMetadataValue:
    return markdown_table(
        ("tenant", "source", "day", "rule", "rows", "unexpected", "share seen", "leads"),
        (
            (
                item.group.tenant,
                item.group.source,
                item.group.day,
                item.rule.name,
                item.rows,
                item.unexpected,
                "" if item.observed is None else f"{item.observed:.2f}",
                "released" if item.group in held.released else "held",
            )
            for item in outcomes
        ),
    )
