"""The rules of ``domain.expectations`` for the hot chain, in SQL, and the holds that are open in the batch lane.

Neither blocks: what came over the hot lanes has passed when it is counted. Great Expectations holds the same rules
against the batch lane (``defs.expectations``).
"""

import dagster as dg

from leads_pipeline.defs.metadata import markdown_table
from leads_pipeline.defs.shield import LOST_CONNECTION, shielded
from leads_pipeline.domain.expectations import Finding, Group
from leads_pipeline.domain.stage import Stage
from leads_pipeline.flows import FlowContext
from leads_pipeline.steps.quality import judge_latest
from leads_pipeline.storage.quality import columns_expected, columns_found
from leads_pipeline.storage.quality_holds import find_holds

# The first open holds; `leads quality list` shows all.
HOLDS_SHOWN = 50


@dg.asset_check(
    asset=str(Stage.VALIDATED_LEADS),
    name="validation_rules",
    description="The hot lanes' leads of the last hour keep the rules that Great Expectations holds the batch lane to.",
    retry_policy=LOST_CONNECTION,
)
def validation_rules(flow: dg.ResourceParam[FlowContext]) -> dg.AssetCheckResult:
    """An error where leads break a rule about themselves, a warning where only their shares differ from before."""
    now = flow.clock.now()
    with shielded("validation_rules counts the latest leads"), flow.engine.connect() as connection:
        lacking = sorted(set(columns_expected()) - set(columns_found(connection)))
        judged = {} if lacking else judge_latest(connection, settings=flow.settings, now=now)
    broken = [
        (group, finding) for group, (standard, counts) in judged.items() for finding in standard.broken_by(counts)
    ]
    only_drift = all(finding.rule.is_drift for _group, finding in broken) and not lacking
    return dg.AssetCheckResult(
        passed=not broken and not lacking,
        severity=dg.AssetCheckSeverity.WARN if only_drift else dg.AssetCheckSeverity.ERROR,
        metadata={
            "rows": sum(counts.rows for _standard, counts in judged.values()),
            "sources": len(judged),
            "rules": sum(len(standard.rules) for standard, _counts in judged.values()),
            "rules_broken": len(broken),
            "columns_lacking": len(lacking),
            **({"broken": _findings_table(broken)} if broken else {}),
            **({"columns": markdown_table(("column",), ((column,) for column in lacking))} if lacking else {}),
        },
    )


@dg.asset_check(
    asset=str(Stage.VALIDATED_LEADS),
    name="quality_holds",
    description="No source's leads are held back from matching. `leads quality list` says what to do.",
    retry_policy=LOST_CONNECTION,
)
def quality_holds(flow: dg.ResourceParam[FlowContext]) -> dg.AssetCheckResult:
    with shielded("quality_holds looks for open holds"), flow.engine.connect() as connection:
        holds = find_holds(connection)
    return dg.AssetCheckResult(
        passed=not holds,
        metadata={
            "holds": len(holds),
            "leads_held": sum(hold.waiting + hold.validating for hold in holds),
            "open": markdown_table(
                ("hold", "tenant", "source", "day", "leads", "since (UTC)", "rules"),
                (
                    (
                        hold.hold_id,
                        hold.group.tenant,
                        hold.group.source,
                        hold.group.day,
                        hold.waiting + hold.validating,
                        f"{hold.held_at:%Y-%m-%d %H:%M}",
                        ", ".join(hold.rules),
                    )
                    for hold in holds[:HOLDS_SHOWN]
                ),
            ),
        },
    )


def _findings_table(broken: list[tuple[Group, Finding]]) -> dg.MarkdownMetadataValue:
    return markdown_table(
        ("tenant", "source", "rule", "leads", "unexpected", "share seen"),
        (
            (
                group.tenant,
                group.source,
                finding.rule.name,
                finding.rows,
                finding.unexpected,
                "" if finding.observed is None else f"{finding.observed:.2f}",
            )
            for group, finding in broken
        ),
    )


VALIDATION_CHECKS: tuple[dg.AssetChecksDefinition, ...] = (validation_rules, quality_holds)
