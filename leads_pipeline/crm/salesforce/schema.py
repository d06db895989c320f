"""The fields of a Salesforce object as those of a destination. Pure; nothing relies on a key that may be missing."""

from collections.abc import Mapping
from typing import Any

from leads_pipeline.domain.destination_schema import DestinationSchema, FieldSchema, FieldType

_TYPES = {
    **dict.fromkeys(("string", "email", "phone", "url", "textarea", "id", "reference"), FieldType.TEXT),
    **dict.fromkeys(("double", "int", "currency", "percent", "long"), FieldType.NUMBER),
    "boolean": FieldType.BOOLEAN,
    "date": FieldType.DATE,
    "datetime": FieldType.DATETIME,
    "picklist": FieldType.CHOICE,
    "multipicklist": FieldType.CHOICES,
}


def schema_of(body: Any) -> DestinationSchema:
    """What an answer to describe says. A field that cannot be read is left out."""
    fields = body.get("fields") if isinstance(body, dict) else None
    entries = fields if isinstance(fields, list) else []
    read = [_field(entry) for entry in entries if isinstance(entry, dict) and isinstance(entry.get("name"), str)]
    return DestinationSchema({item.name: item for item in read})


def _field(entry: Mapping[str, Any]) -> FieldSchema:
    kind = _TYPES.get(str(entry.get("type")), FieldType.OTHER)
    length = entry.get("length")
    is_text = kind is FieldType.TEXT and isinstance(length, int) and length > 0
    return FieldSchema(
        name=entry["name"],
        type=kind,
        read_only=entry.get("updateable") is False and entry.get("createable") is False,
        unique=entry.get("unique") is True,
        max_length=length if is_text else None,
        options=_options(entry),
    )


def _options(entry: Mapping[str, Any]) -> frozenset[str] | None:
    """What the field takes, where it takes nothing else: a picklist that is not restricted takes any text."""
    values = entry.get("picklistValues")
    if not isinstance(values, list) or not values or entry.get("restrictedPicklist") is not True:
        return None
    active = (item for item in values if isinstance(item, dict) and item.get("active") is not False)
    return frozenset(str(item["value"]) for item in active if "value" in item)
