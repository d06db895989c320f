"""The job ``rebuild_identity``: all contacts of a tenant resolved anew. It only shows the difference, unless told.

Belongs to the code location ``analytics``, whose runs nobody waits for. It has no schedule: what a new model or other
rules would change is for a person to look at.
"""

from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from leads_pipeline.defs.metadata import markdown_table
from leads_pipeline.defs.runs import LONG_BACKGROUND, SERIAL_TAG
from leads_pipeline.defs.shield import shielded
from leads_pipeline.errors import LeadsError
from leads_pipeline.flows import FlowContext

if TYPE_CHECKING:
    from leads_pipeline.steps.rebuilt_identity import Difference, Rebuilt


class RebuildConfig(dg.Config):
    """Whose contacts, and whether the difference is written."""

    tenant: str = Field(description="By its name in leads.yaml.")
    apply: bool = Field(default=False, description="Write the difference; otherwise it is only shown.")


@dg.op(description="Resolves all leads of a tenant anew, shows how its contacts differ, and writes that if told to.")
def rebuild_contacts(
    context: dg.OpExecutionContext, config: RebuildConfig, flow: dg.ResourceParam[FlowContext]
) -> None:
    with shielded("rebuild_identity resolves the tenant's leads anew"):
        # Splink and DuckDB, for this run alone.
        from leads_pipeline.matching.scorer_source import parameters_for  # noqa: PLC0415
        from leads_pipeline.steps.rebuilt_identity import Rebuild, apply, compare  # noqa: PLC0415

        if config.tenant not in flow.settings.tenants:
            known = ", ".join(flow.settings.tenants)
            raise LeadsError(f"leads.yaml knows no tenant {config.tenant}; there are: {known}")
        with flow.engine.connect() as connection:
            parameters = parameters_for(connection, config.tenant)
        rebuild = Rebuild(
            tenant=config.tenant,
            settings=flow.settings.matching,
            parameters=parameters,
            state_path=flow.settings.state_path,
            clock=flow.clock,
            runner_id=context.run_id,
        )
        difference = compare(flow.engine, rebuild)
        context.log.info("the difference is known: %s", difference.summary)
        done = apply(flow.engine, rebuild, difference) if config.apply else None
    context.add_output_metadata(_metadata(difference, done))


def _metadata(difference: "Difference", done: "Rebuilt | None") -> dict[str, Any]:
    found = difference.summary
    metadata: dict[str, Any] = {
        "leads": difference.leads,
        "contacts_now": difference.contacts_now,
        "contacts_then": difference.contacts_then,
        "unchanged": difference.unchanged,
        "merges": found.merges,
        "splits": found.splits,
        "moves": found.moves,
        "moved_leads": found.moved_leads,
        "held_for_review": len(difference.asked),
        "model": difference.version,
        "rebuild_id": str(difference.rebuild_id),
        "seconds": markdown_table(("phase", "s"), difference.seconds.items()),
        "biggest": markdown_table(("oldest lead", "leads"), difference.biggest),
        "applied": done is not None,
    }
    if done is not None:
        written = done.regrouped
        metadata |= {
            "written": written.applied,
            "decisions": written.decisions,
            "changed_since": written.stale,
            "forbidden_by_links": written.forbidden,
            "asked": done.asked,
        }
    return metadata


@dg.job(
    description="Resolves all leads of a tenant anew and shows how its contacts would differ; apply writes it.",
    tags={SERIAL_TAG: "rebuild_identity", "dagster/priority": "-20", **LONG_BACKGROUND},
)
def rebuild_identity() -> None:
    rebuild_contacts()
