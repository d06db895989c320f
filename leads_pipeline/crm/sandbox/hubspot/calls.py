"""What an operation is given, and how it reads the request.

``Call`` is one request after the token, the limits and the faults; an ``Operation`` turns it into an ``Answer``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any

import msgspec

from leads_pipeline.crm.sandbox.hubspot.answers import Refusal, invalid, refused
from leads_pipeline.crm.sandbox.hubspot.options import HubSpotOptions
from leads_pipeline.crm.sandbox.hubspot.store import Contact, ContactStore
from leads_pipeline.crm.sandbox.observations import CrmObservations
from leads_pipeline.sandbox.answers import Answer
from leads_pipeline.sandbox.faults import FaultInjector

DEFAULT_PROPERTIES = ("createdate", "email", "firstname", "hs_object_id", "lastmodifieddate", "lastname")
# What every written record shows beside the properties that were sent, as recorded.
_ALWAYS_SHOWN = frozenset(
    {
        "createdate", "hs_is_unworked", "hs_object_id", "hs_object_source", "hs_object_source_id",
        "hs_object_source_label", "hs_pipeline", "lastmodifieddate", "lifecyclestage",
    }
)  # fmt: skip
# What a new record shows besides, of features that a sandbox has no use for.
_UNTOUCHED = {
    "hs_associated_target_accounts": "0",
    "hs_currently_enrolled_in_prospecting_agent": "false",
    "hs_membership_has_accessed_private_content": "0",
    "hs_prospecting_agent_actively_enrolled_count": "0",
    "hs_prospecting_agent_total_enrolled_count": "0",
    "hs_registered_member": "0",
    "hs_sequences_actively_enrolled_count": "0",
}


class Refused(Exception):
    """Ends an operation with a refusal of the whole request; a transaction around it is rolled back."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.category)
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class Account:
    """Everything that the requests of one account share."""

    options: HubSpotOptions
    store: ContactStore
    faults: FaultInjector
    observations: CrmObservations
    random: Random


@dataclass(frozen=True, slots=True)
class Call:
    """One request."""

    account: Account
    endpoint: str
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    now: datetime
    correlation_id: str

    def document(self) -> dict[str, Any]:
        """The body, a JSON object; else the request is refused."""
        try:
            document = msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refused(invalid(f"Invalid input JSON: {error}")) from None
        if not isinstance(document, dict):
            raise Refused(invalid("Invalid input JSON on line 1, column 1: an object is needed"))
        return document

    def refuse(self, refusal: Refusal) -> Answer:
        """Refuse the whole request."""
        return refused(refusal, correlation_id=self.correlation_id)


Operation = Callable[[Call], Answer]


def required(document: Mapping[str, Any], *names: str) -> None:
    """Refuse the request if the object lacks a field."""
    missing = [name for name in names if document.get(name) is None]
    if missing:
        shown = ", ".join(missing)
        raise Refused(invalid(f"Invalid input JSON on line 1, column 2: Some required fields were not set: [{shown}]"))


def sent_values(document: Mapping[str, Any]) -> dict[str, str | None]:
    """The ``properties`` of a request as text: numbers and booleans are taken, lists and objects are not."""
    required(document, "properties")
    properties = document["properties"]
    if not isinstance(properties, dict):
        raise Refused(invalid("Invalid input JSON on line 1, column 2: properties must be an object"))
    return {name: _text(name, value) for name, value in properties.items()}


def names_in(document: Mapping[str, Any], field: str) -> list[str]:
    """A list of texts in a request; absent is empty."""
    names = document.get(field) or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Refused(invalid(f"Invalid input JSON on line 1, column 2: {field} must be a list of strings"))
    return names


def _text(name: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise Refused(invalid(f"Invalid input JSON on line 1, column 2: Cannot deserialize value of type `String`: {name}"))


def written(contact: Contact, sent: Mapping[str, str]) -> dict[str, Any]:
    """A record as a write answers it: what was sent and HubSpot's own properties, not the whole record."""
    names = _ALWAYS_SHOWN | sent.keys()
    return _record(contact, {name: value for name, value in sorted(contact.properties.items()) if name in names})


def whole(contact: Contact) -> dict[str, Any]:
    """A record with everything that it holds, as a create answers it."""
    return _record(contact, dict(sorted((_UNTOUCHED | contact.properties).items())))


def selected(contact: Contact, names: list[str], known: Mapping[str, Any]) -> dict[str, Any]:
    """A record as a read answers it: the properties asked for (null if empty) and the few that always come."""
    values: dict[str, str | None] = {
        name: contact.properties.get(name) for name in (*DEFAULT_PROPERTIES, *names) if name in known
    }
    if names:
        always = {"createdate", "hs_object_id", "lastmodifieddate"}
        values = {name: value for name, value in values.items() if name in always or name in names}
    return _record(contact, dict(sorted(values.items())))


def _record(contact: Contact, properties: Mapping[str, str | None]) -> dict[str, Any]:
    record: dict[str, Any] = {
        "id": contact.id,
        "properties": properties,
        "createdAt": contact.created_at,
        "updatedAt": contact.updated_at,
        "archived": contact.archived_at is not None,
    }
    if contact.archived_at is not None:
        record["archivedAt"] = contact.archived_at
    record["url"] = f"https://app.hubspot.com/contacts/1000001/record/0-1/{contact.id}"
    return record
