"""What delivery promises of what is sent, as asset checks: nothing is left out without a word.

They read what is kept and ask no CRM: ``leads destinations check`` does, and so does a delivery.
"""

import dagster as dg

from leads_pipeline.defs.metadata import markdown_table
from leads_pipeline.defs.shield import LOST_CONNECTION, shielded
from leads_pipeline.domain.stage import Stage
from leads_pipeline.flows import FlowContext
from leads_pipeline.storage.destination_schemas import read_schema, withheld_counts


@dg.asset_check(
    asset=str(Stage.CRM_SYNC_BATCHES),
    name="mapping",
    description="Every mapped property can be sent, and no contact is at a destination without one of them.",
    retry_policy=LOST_CONNECTION,
)
def mapping(flow: dg.ResourceParam[FlowContext]) -> dg.AssetCheckResult:
    """A warning while contacts are delivered without some properties; a failure where none can be delivered."""
    names = list(flow.settings.destinations)
    with shielded("mapping reads what destinations told"), flow.engine.connect() as connection:
        stored = {name: read_schema(connection, name) for name in names}
        withheld = withheld_counts(connection, names)
    faults = [(name, fault) for name, item in stored.items() if item is not None for fault in item.faults]
    words = [f"{name}.{fault.name} {fault.fault}: {fault.advice}" for name, fault in faults]
    words += [f"{item.contacts:,} contacts are at {item.destination} without {item.name}" for item in withheld]
    blocked = any(fault.blocks for _name, fault in faults)
    return dg.AssetCheckResult(
        passed=not words,
        severity=dg.AssetCheckSeverity.ERROR if blocked else dg.AssetCheckSeverity.WARN,
        description="; ".join(words) or None,
        metadata={
            "faults": markdown_table(
                ("destination", "property", "fault", "what to do"),
                ((name, fault.name, fault.fault, fault.advice) for name, fault in faults),
            ),
            "withheld": markdown_table(
                ("destination", "property", "fault", "contacts"),
                ((item.destination, item.name, item.fault, item.contacts) for item in withheld),
            ),
            "unchecked": [name for name, item in stored.items() if item is None],
        },
    )


DELIVERY_CHECKS: tuple[dg.AssetChecksDefinition, ...] = (mapping,)
