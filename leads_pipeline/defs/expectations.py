"""A Great Expectations suite over the validated leads that are about to be matched; it blocks the batch job.

What it examines is what it would hold back: the rows that this run validated and the batch lane's rows that wait at the
door of ``deduped_leads``. Bad rows of an earlier, blocked run are therefore still bad in the next one. If none wait, it
examines the batch lane's latest rows. Sources are examined one by one: a broken import must not hide behind a large
healthy one.

Great Expectations takes five CPU-seconds to import, so that happens inside the check and the near-real-time job leaves
the check out. Results are reduced to counts: its reports quote values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import dagster as dg

from leads_pipeline.defs.metadata import markdown_table
from leads_pipeline.defs.shield import LOST_CONNECTION, shielded
from leads_pipeline.domain.stage import Lane, Stage
from leads_pipeline.flows import FlowContext
from leads_pipeline.storage.validated_sample import EXAMINED_COLUMNS, Completeness, completeness_since, rows_to_examine

ROWS_PER_SOURCE = 10_000

# A source's share of rows with a field may fall this far below what it was: beyond, a column was lost or mismapped.
COMPLETENESS_DROP = 0.3
BASELINE = timedelta(days=7)

_EMAIL = r"^[^@\s]+@[^@\s]+\.[^@\s.]+$"
_E164 = r"^\+[1-9][0-9]{6,14}$"
_ALWAYS_PRESENT = ("lead_id", "tenant", "source", "received_at", "validated_at", "sync_lane", "rule_version")
_PAIRED = (("email", "email_key"), ("phone", "phone_key"))
_OPTIONAL = ("email", "phone", "last_name", "company")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one expectation found in one source's rows: counts only."""

    tenant: str
    source: str
    expectation: str
    rows: int
    unexpected: int
    met: bool


@dg.asset_check(
    asset=str(Stage.VALIDATED_LEADS),
    name="expectations",
    description="Great Expectations over leads about to be matched, per source: schema, null rates, ranges, formats.",
    blocking=True,
    retry_policy=LOST_CONNECTION,
)
def expectations(context: dg.AssetCheckExecutionContext, flow: dg.ResourceParam[FlowContext]) -> dg.AssetCheckResult:
    now = flow.clock.now()
    with shielded("expectations examines validated leads"):
        with flow.engine.connect() as connection:
            rows = rows_to_examine(connection, runner_id=context.run.run_id, limit_per_source=ROWS_PER_SOURCE)
            baselines = completeness_since(connection, now - BASELINE)
        outcomes = examine(rows, baselines=baselines, min_sample=flow.settings.slos.min_sample, now=now)
    broken = [outcome for outcome in outcomes if not outcome.met]
    return dg.AssetCheckResult(
        passed=not broken,
        metadata={
            "rows": len(rows),
            "sources": len({(outcome.tenant, outcome.source) for outcome in outcomes}),
            "expectations": len(outcomes),
            "expectations_broken": len(broken),
            "unexpected_values": sum(outcome.unexpected for outcome in broken),
            **({"broken": _outcomes_table(broken)} if broken else {}),
        },
    )


def examine(
    rows: Sequence[dict[str, Any]], *, baselines: Sequence[Completeness], min_sample: int, now: datetime
) -> list[Outcome]:
    """Hold each source's rows against the suite. ``baselines`` say how complete a source's rows were before."""
    if not rows:
        return []
    import great_expectations as gx  # noqa: PLC0415 - see the module's docstring
    import pandas as pd  # noqa: PLC0415
    from great_expectations.data_context.types.base import ProgressBarsConfig  # noqa: PLC0415

    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(False)
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    definition = (
        context.data_sources.add_pandas("validated_leads")
        .add_dataframe_asset("source")
        .add_batch_definition_whole_dataframe("rows")
    )
    known = {(item.tenant, item.source): item for item in baselines if item.rows >= min_sample}
    frame = _derived(pd.DataFrame(list(rows)), now=now)
    outcomes: list[Outcome] = []
    for (tenant, source), part in frame.groupby(["tenant", "source"], sort=True):
        suite = gx.ExpectationSuite(
            name=f"{tenant}.{source}", expectations=_suite(gx, known.get((tenant, source)), now)
        )
        report = definition.get_batch({"dataframe": part.reset_index(drop=True)}).validate(
            suite, result_format={"result_format": "BASIC", "partial_unexpected_count": 0}
        )
        outcomes.extend(_outcome(tenant, source, result, rows=len(part)) for result in report.results)
    return outcomes


def _derived(frame: Any, *, now: datetime) -> Any:
    """Add what the suite judges and the table does not hold as a column of its own."""
    for field, key in _PAIRED:
        frame[f"has_{field}"] = frame[field].notna()
        frame[f"has_{key}"] = frame[key].notna()
    named = frame[["first_name", "last_name", "full_name"]].notna().any(axis=1)
    placed = frame[["date_of_birth", "company", "address", "postcode"]].notna().any(axis=1)
    frame["usable"] = frame["email"].notna() | frame["phone"].notna() | (named & placed)
    frame["birth_year"] = [value.year if value is not None else None for value in frame["date_of_birth"]]
    frame["age_seconds"] = [(now - value).total_seconds() for value in frame["received_at"]]
    return frame


def _suite(gx: Any, baseline: Completeness | None, now: datetime) -> list[Any]:
    expect = gx.expectations
    derived = [f"has_{name}" for pair in _PAIRED for name in pair] + ["usable", "birth_year", "age_seconds"]
    suite = [
        expect.ExpectTableColumnsToMatchSet(column_set=[*EXAMINED_COLUMNS, *derived], exact_match=True),
        *(expect.ExpectColumnValuesToNotBeNull(column=name) for name in _ALWAYS_PRESENT),
        expect.ExpectColumnValuesToBeUnique(column="lead_id"),
        expect.ExpectColumnValuesToBeInSet(column="usable", value_set=[True]),
        *(expect.ExpectColumnPairValuesToBeEqual(column_A=f"has_{a}", column_B=f"has_{b}") for a, b in _PAIRED),
        expect.ExpectColumnValuesToBeInSet(column="sync_lane", value_set=[str(lane) for lane in Lane]),
        expect.ExpectColumnValuesToMatchRegex(column="email", regex=_EMAIL),
        expect.ExpectColumnValueLengthsToBeBetween(column="email", max_value=320),
        expect.ExpectColumnValuesToMatchRegex(column="phone", regex=_E164),
        expect.ExpectColumnValuesToMatchRegex(column="country", regex="^[A-Z]{2}$"),
        expect.ExpectColumnValuesToBeBetween(column="birth_year", min_value=1, max_value=now.year),
        # A clock that runs ahead, or a time zone taken for UTC, shows as a lead from the future.
        expect.ExpectColumnValuesToBeBetween(column="age_seconds", min_value=-60),
    ]
    if baseline is not None:
        suite += [
            expect.ExpectColumnValuesToNotBeNull(column=name, mostly=max(0.0, share - COMPLETENESS_DROP))
            for name, share in ((name, baseline.share(name)) for name in _OPTIONAL)
            if share > COMPLETENESS_DROP
        ]
    return suite


def _outcome(tenant: str, source: str, result: Any, *, rows: int) -> Outcome:
    config = result.expectation_config
    columns = [str(config.kwargs[name]) for name in ("column", "column_A", "column_B") if name in config.kwargs]
    found = result.result.get("unexpected_count")
    return Outcome(
        tenant=tenant,
        source=source,
        expectation=" ".join([config.type, *columns]),
        rows=rows,
        # An expectation about the table as a whole, or one that raised, counts no values.
        unexpected=int(found) if found is not None else 0,
        met=bool(result.success),
    )


def _outcomes_table(outcomes: Sequence[Outcome]) -> dg.MarkdownMetadataValue:
    return markdown_table(
        ("tenant", "source", "expectation", "rows", "unexpected"),
        ((item.tenant, item.source, item.expectation, item.rows, item.unexpected) for item in outcomes),
    )
