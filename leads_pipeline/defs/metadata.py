"""How counts and tables are shown in Dagster. Numbers stay numbers, because Dagster plots those over time.

Nothing here may take a lead's or a contact's values: metadata lives in the event log.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import dagster as dg
import sqlalchemy as sa

from leads_pipeline.flows import StageSummary
from leads_pipeline.storage.measurements import Queue
from leads_pipeline.storage.schema import SCHEMA, metadata


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> dg.MarkdownMetadataValue:
    """A table that the UI renders in place."""
    lines = [header, ["---"] * len(header), *rows]
    return dg.MetadataValue.md("\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines))


def counts_table(counts: Mapping[str, object]) -> dg.MarkdownMetadataValue:
    """Counts by name."""
    return markdown_table(("", "count"), sorted(counts.items()))


def queues_table(queues: Iterable[Queue], *, now: datetime) -> dg.MarkdownMetadataValue:
    """What waits where."""
    return markdown_table(
        ("stage", "tenant", "lane", "waiting", "oldest, s"),
        ((queue.stage, queue.tenant, queue.lane, queue.waiting, queue.oldest_seconds(now)) for queue in queues),
    )


def summary_metadata(summary: StageSummary) -> dict[str, Any]:
    """What one drain of a stage did."""
    return {
        **summary.counts,
        "taken": summary.taken,
        "passed": summary.passed,
        "chunks": summary.chunks,
        "seconds": round(summary.seconds, 3),
        "leads_per_second": round(summary.taken / summary.seconds, 1) if summary.seconds > 0 else 0.0,
        "remaining": summary.remaining,
        "oldest_wait_seconds": round(summary.oldest_wait_seconds or 0.0, 3),
    }


def table_metadata(name: str) -> dict[str, Any]:
    """The asset's table and its columns, each with a mark on personal data. ``name``: the table's."""
    table = metadata.tables[name]
    return {
        "dagster/table_name": f"{SCHEMA}.{table.name}",
        "dagster/column_schema": dg.TableSchema(columns=[_column(column) for column in table.columns]),
    }


def _column(column: sa.Column[Any]) -> dg.TableColumn:
    return dg.TableColumn(
        name=column.name,
        type=str(column.type).lower(),
        tags={"personal_data": ""} if column.info.get("personal") else None,
        constraints=dg.TableColumnConstraints(nullable=bool(column.nullable), unique=False),
    )


def _cell(value: object) -> str:
    return f"{value:,.1f}" if isinstance(value, float) else str(value)
