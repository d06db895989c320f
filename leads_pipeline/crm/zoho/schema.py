"""The fields of a module of Zoho as those of a destination. Pure; nothing relies on a key that may be missing."""

from collections.abc import Mapping
from typing import Any

from leads_pipeline.domain.destination_schema import DestinationSchema, FieldSchema, FieldType

_TYPES = {
    "text": FieldType.TEXT,
    "email": FieldType.TEXT,
    "phone": FieldType.TEXT,
    "website": FieldType.TEXT,
    "textarea": FieldType.TEXT,
    "integer": FieldType.NUMBER,
    "bigint": FieldType.NUMBER,
    "double": FieldType.NUMBER,
    "currency": FieldType.NUMBER,
    "percent": FieldType.NUMBER,
    "boolean": FieldType.BOOLEAN,
    "date": FieldType.DATE,
    "datetime": FieldType.DATETIME,
    "picklist": FieldType.CHOICE,
    # A list of options is taken as a JSON list only, and no field of a contact is one.
}


def schema_of(body: Any) -> DestinationSchema:
    """What an answer to ``GET …/settings/fields`` says. A field that cannot be read is left out."""
    found = body.get("fields") if isinstance(body, dict) else None
    entries = found if isinstance(found, list) else []
    fields = [_field(entry) for entry in entries if isinstance(entry, dict) and isinstance(entry.get("api_name"), str)]
    return DestinationSchema({field.name: field for field in fields})


def _field(entry: Mapping[str, Any]) -> FieldSchema:
    kind = _TYPES.get(str(entry.get("data_type")), FieldType.OTHER)
    length = entry.get("length")
    return FieldSchema(
        name=entry["api_name"],
        type=kind,
        required=entry.get("system_mandatory") is True,
        read_only=entry.get("read_only") is True or entry.get("field_read_only") is True,
        unique=bool(entry.get("unique")),  # an empty object: it need not be
        max_length=length if kind is FieldType.TEXT and isinstance(length, int) and length > 0 else None,
        options=_options(entry) if kind is FieldType.CHOICE else None,
    )


def _options(entry: Mapping[str, Any]) -> frozenset[str] | None:
    values = entry.get("pick_list_values")
    if not isinstance(values, list):
        return None
    return frozenset(str(item["actual_value"]) for item in values if isinstance(item, dict) and "actual_value" in item)
