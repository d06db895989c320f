"""Checks on the runs themselves: jobs that fail again and again, imports that stopped half-way.

Keep out: when a sensor asks again (``defs.runs``).
"""

from collections.abc import Sequence
from datetime import timedelta

import dagster as dg

from leads_pipeline.defs.metadata import markdown_table
from leads_pipeline.defs.runs import setbacks
from leads_pipeline.defs.shield import LOST_CONNECTION, shielded
from leads_pipeline.defs.sweep import IMPORT_SILENCE
from leads_pipeline.flows import FlowContext
from leads_pipeline.storage.half_done_imports import half_done_imports

# One failed run is asked again at once; from here on it is no accident.
FAILED_IN_A_ROW = 3


def _runs_succeed(asset: str, jobs: Sequence[str]) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        name="runs_succeed",
        asset=asset,
        description=f"The last runs of {' and '.join(jobs)} did not all fail.",
        retry_policy=LOST_CONNECTION,
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        with shielded("runs_succeed looks at earlier runs"):
            found = {job: setbacks(context.instance, job) for job in jobs}
        worst = max(item.failed for item in found.values())
        given_up = [job for job, item in found.items() if item.is_given_up]
        metadata: dict[str, dg.MetadataValue | int | str] = {"failed_in_a_row": worst}
        if given_up:
            metadata["what_helps"] = "mend the fault, then: " + "; ".join(
                f"leads runs retry {job} --actor YOU" for job in given_up
            )
        return dg.AssetCheckResult(
            passed=worst < FAILED_IN_A_ROW,
            severity=dg.AssetCheckSeverity.ERROR if given_up else dg.AssetCheckSeverity.WARN,
            description=f"{worst} failed in a row" + ("; only one run an hour tries now" if given_up else ""),
            metadata=metadata,
        )

    return check


@dg.asset_check(
    name="imports_finished",
    asset="raw_leads",
    description="No import of a file stopped half-way and was left.",
    retry_policy=LOST_CONNECTION,
)
def imports_finished(flow: dg.ResourceParam[FlowContext]) -> dg.AssetCheckResult:
    """Whoever has the file imports it again: it goes on where it stopped."""
    now = flow.clock.now()
    with shielded("imports_finished looks for them"), flow.engine.connect() as connection:
        found = half_done_imports(connection, moved_before=now - IMPORT_SILENCE)
        # Of long ago: whoever stopped it meant to.
        found = [item for item in found if item.moved_at > now - timedelta(days=7)]
    rows = [(f"{item.tenant}/{item.source}", item.file_sha256[:12], item.position, item.moved_at) for item in found]
    return dg.AssetCheckResult(
        passed=not found,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "half_done": len(found),
            **({"imports": markdown_table(("source", "file", "rows", "last moved"), rows)} if rows else {}),
        },
    )


RUN_CHECKS = (
    _runs_succeed("raw_leads", ("near_real_time", "batch")),
    _runs_succeed("crm_sync_batches", ("delivery",)),
    _runs_succeed("verifications", ("verification",)),
    imports_finished,
)
