"""HubSpot's contact properties as the fields of a destination. Pure; nothing relies on a key that may be missing."""

from collections.abc import Mapping
from typing import Any

from leads_pipeline.domain.destination_schema import DestinationSchema, FieldSchema, FieldType

MAX_TEXT = 65_536  # characters of any text, through the API

_TYPES = {
    "string": FieldType.TEXT,
    "phone_number": FieldType.TEXT,
    "number": FieldType.NUMBER,
    "bool": FieldType.BOOLEAN,
    "date": FieldType.DATE,
    "datetime": FieldType.DATETIME,
    "enumeration": FieldType.CHOICE,
}
# How an enumeration is shown tells what kind of one it is.
_SHOWN_AS = {"booleancheckbox": FieldType.BOOLEAN, "checkbox": FieldType.CHOICES}


def schema_of(body: Any) -> DestinationSchema:
    """What an answer to ``GET …/properties/contacts`` says. A property that cannot be read is left out."""
    results = body.get("results") if isinstance(body, dict) else None
    entries = results if isinstance(results, list) else []
    fields = [_field(entry) for entry in entries if isinstance(entry, dict) and isinstance(entry.get("name"), str)]
    return DestinationSchema({field.name: field for field in fields})


def _field(entry: Mapping[str, Any]) -> FieldSchema:
    kind = _TYPES.get(str(entry.get("type")), FieldType.OTHER)
    if kind is FieldType.CHOICE:
        kind = _SHOWN_AS.get(str(entry.get("fieldType")), kind)
    modification = entry.get("modificationMetadata")
    modification = modification if isinstance(modification, dict) else {}
    return FieldSchema(
        name=entry["name"],
        type=kind,
        read_only=modification.get("readOnlyValue") is True or entry.get("calculated") is True,
        unique=entry.get("hasUniqueValue") is True,
        max_length=MAX_TEXT if kind is FieldType.TEXT else None,
        options=_options(entry) if kind in (FieldType.CHOICE, FieldType.CHOICES) else None,
    )


def _options(entry: Mapping[str, Any]) -> frozenset[str] | None:
    options = entry.get("options")
    if not isinstance(options, list) or entry.get("externalOptions") is True:
        return None
    return frozenset(str(item["value"]) for item in options if isinstance(item, dict) and "value" in item)
