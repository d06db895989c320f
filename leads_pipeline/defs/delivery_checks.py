"""What delivery promises of what is sent, as asset checks: nothing is left out or left lying without a word.

They read what is kept and ask no CRM: ``leads destinations check`` does, and so does a delivery.
"""

import dagster as dg

from leads_pipeline.crm.parking import parked_now
from leads_pipeline.defs.delivery_metadata import REASONS_SHOWN, parked_rows
from leads_pipeline.defs.metadata import markdown_table
from leads_pipeline.defs.shield import LOST_CONNECTION, shielded
from leads_pipeline.domain.stage import Stage
from leads_pipeline.flows import FlowContext
from leads_pipeline.storage.dead_letters import open_letters
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
            "properties_faulty": len(faults),
            "contacts_without": sum(item.contacts for item in withheld),
            **_table(
                "faults",
                ("destination", "property", "fault", "what to do"),
                [(name, fault.name, fault.fault, fault.advice) for name, fault in faults],
            ),
            **_table(
                "withheld",
                ("destination", "property", "fault", "contacts"),
                [(item.destination, item.name, item.fault, f"{item.contacts:,}") for item in withheld],
            ),
            "unchecked": [name for name, item in stored.items() if item is None],
        },
    )


@dg.asset_check(
    asset=str(Stage.CRM_SYNC_BATCHES),
    name="open_dead_letters",
    description="No contact was given up and waits for somebody to decide.",
    retry_policy=LOST_CONNECTION,
)
def open_dead_letters(flow: dg.ResourceParam[FlowContext]) -> dg.AssetCheckResult:
    """Only ever a warning: `delivery_success` fails where too many contacts are given up."""
    now = flow.clock.now()
    with shielded("open_dead_letters counts them"), flow.engine.connect() as connection:
        found = open_letters(connection, list(flow.settings.destinations))
    oldest = max(((now - item.oldest).total_seconds() for item in found), default=0.0)
    letters = sum(item.letters for item in found)
    return dg.AssetCheckResult(
        passed=not found,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{letters:,} contacts were given up: `leads dead-letters list`, then fix, redrive or discard them"
        if found
        else None,
        metadata={
            "open": letters,
            "oldest_hours": round(max(0.0, oldest) / 3600, 1),
            **_table(
                "letters",
                ("destination", "class", "code", "letters", "oldest (UTC)"),
                [
                    (one.destination, one.reason, one.code or "", f"{one.letters:,}", f"{one.oldest:%Y-%m-%d %H:%M}")
                    for one in found[:REASONS_SHOWN]
                ],
            ),
        },
    )


@dg.asset_check(
    asset=str(Stage.CRM_SYNC_BATCHES),
    name="parked_destinations",
    description="Every destination may be asked: none is parked, and no lane of one.",
    retry_policy=LOST_CONNECTION,
)
def parked_destinations(flow: dg.ResourceParam[FlowContext]) -> dg.AssetCheckResult:
    """A warning where it ends by itself; a failure where a destination waits for somebody to act."""
    with shielded("parked_destinations looks at what is parked"):
        found = parked_now(flow.engine, settings=flow.settings, now=flow.clock.now())
    parked = found.named()
    stuck = [name for name, item in parked.items() if item.needs_somebody]
    header, rows = parked_rows(parked)
    return dg.AssetCheckResult(
        passed=not parked,
        severity=dg.AssetCheckSeverity.ERROR if stuck else dg.AssetCheckSeverity.WARN,
        description="; ".join(f"{name} ({item.reason}): {item.advice}" for name, item in parked.items()) or None,
        metadata={
            "destinations_parked": len(found.destinations),
            "lanes_parked": len(found.lanes),
            "need_somebody": len(stuck),
            **_table("parked", header, rows),
        },
    )


def _table(name: str, header: tuple[str, ...], rows: list[tuple[object, ...]]) -> dict[str, dg.MarkdownMetadataValue]:
    """A table that has a row."""
    return {name: markdown_table(header, rows)} if rows else {}


DELIVERY_CHECKS: tuple[dg.AssetChecksDefinition, ...] = (mapping, open_dead_letters, parked_destinations)
