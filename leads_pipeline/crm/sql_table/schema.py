"""Which columns a table has, as a mapping can be checked against them. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from leads_pipeline.crm.sql_table.statements import Table
from leads_pipeline.domain.destination_schema import DestinationSchema, FieldSchema, FieldType

_TYPES = {
    "text": FieldType.TEXT,
    "character varying": FieldType.TEXT,
    "character": FieldType.TEXT,
    "uuid": FieldType.TEXT,
    "citext": FieldType.TEXT,
    "smallint": FieldType.NUMBER,
    "integer": FieldType.NUMBER,
    "bigint": FieldType.NUMBER,
    "numeric": FieldType.NUMBER,
    "real": FieldType.NUMBER,
    "double precision": FieldType.NUMBER,
    "boolean": FieldType.BOOLEAN,
    "date": FieldType.DATE,
    "timestamp with time zone": FieldType.DATETIME,
    "timestamp without time zone": FieldType.DATETIME,
}


def schema_of(rows: Sequence[Mapping[str, Any]], *, ours: frozenset[str]) -> DestinationSchema:
    """What rows of ``statements.COLUMNS`` say. ``ours``: columns that are filled in beside the mapping."""
    return DestinationSchema({row["column_name"]: _field(row, ours=ours) for row in rows})


def misfits(schema: DestinationSchema, table: Table) -> list[str]:
    """What of the columns that are ours is not as we need it; of such a table every row would be refused."""
    wanted = {
        "key_column": (table.key, FieldType.TEXT, "uuid or text"),
        "version_column": (table.version, FieldType.NUMBER, "bigint"),
        "tenant_column": (table.tenant, FieldType.TEXT, "text"),
        "archived_column": (table.archived, FieldType.DATETIME, "timestamptz"),
    }
    found = []
    for setting, (name, kind, written) in wanted.items():
        held = schema.fields.get(name or "")
        if name is not None and held is not None and (held.type is not kind or held.read_only):
            found.append(f"{name} ({setting}) must be {written} that may be written to")
    return found


def _field(row: Mapping[str, Any], *, ours: frozenset[str]) -> FieldSchema:
    labels = row["labels"]
    kind = _TYPES.get(row["data_type"]) or _TYPES.get(row["udt_name"], FieldType.OTHER)
    return FieldSchema(
        name=row["column_name"],
        type=FieldType.CHOICE if labels else kind,
        required=row["required"] and row["column_name"] not in ours,
        read_only=row["read_only"],
        unique=row["is_unique"],
        max_length=row["character_maximum_length"],
        options=frozenset(labels) if labels else None,
    )
