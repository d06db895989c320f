"""The properties API: what the account's contacts may hold."""

import re

from leads_pipeline.crm.sandbox.hubspot.answers import Refusal, invalid
from leads_pipeline.crm.sandbox.hubspot.calls import Call, required
from leads_pipeline.crm.sandbox.hubspot.properties import MAX_UNIQUE_PROPERTIES, Property
from leads_pipeline.sandbox.answers import Answer

_TYPES = ("string", "number", "date", "datetime", "enumeration", "bool", "phone_number")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")


def list_properties(call: Call) -> Answer:
    """Every property."""
    return Answer(200, {"results": [item.shown() for item in call.account.store.properties.values()]})


def read_property(call: Call) -> Answer:
    """One property by name."""
    item = call.account.store.properties.get(call.path["name"])
    if item is None:
        message = f'Property "{call.path["name"]}" does not exist'
        return call.refuse(Refusal(404, "OBJECT_NOT_FOUND", message))
    return Answer(200, item.shown())


def create_property(call: Call) -> Answer:
    """Add a custom property; at most ten may be unique."""
    document = call.document()
    required(document, "name", "label", "type", "fieldType", "groupName")
    store = call.account.store
    name = str(document["name"])
    if not _NAME.fullmatch(name):
        return call.refuse(invalid(f"{name} is not a property name: lower-case letters, digits and underscores"))
    if document["type"] not in _TYPES:
        return call.refuse(invalid(f"type must be one of {', '.join(_TYPES)}"))
    if name in store.properties:
        return call.refuse(Refusal(409, "CONFLICT", f"A property named '{name}' already exists."))
    unique = document.get("hasUniqueValue") is True
    held = sum(item.unique and item.custom for item in store.properties.values())
    if unique and held >= MAX_UNIQUE_PROPERTIES:
        return call.refuse(invalid(f"An object has at most {MAX_UNIQUE_PROPERTIES} unique properties"))
    options = document.get("options")
    item = Property(
        name=name,
        label=str(document["label"]),
        type=document["type"],
        field_type=str(document["fieldType"]),
        options=tuple(str(one["value"]) for one in options or [] if isinstance(one, dict) and "value" in one),
        unique=unique,
        custom=True,
        group=str(document["groupName"]),
    )
    with store.transaction():
        store.define(item)
    return Answer(201, item.shown())
