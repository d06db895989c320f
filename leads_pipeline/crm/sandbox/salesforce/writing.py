"""Who may write what to which record; the same for REST, collections and bulk jobs."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from leads_pipeline.crm.sandbox.salesforce.answers import RecordFault
from leads_pipeline.crm.sandbox.salesforce.calls import Org
from leads_pipeline.crm.sandbox.salesforce.fields import Value, checked, missing
from leads_pipeline.crm.sandbox.salesforce.store import Stored

LEAD = "Lead"


def create(org: Org, object_type: str, values: Mapping[str, Any], *, now: datetime) -> Stored:
    """Make a record.

    Raises:
        RecordFault: it is refused.
    """
    known = org.fields(object_type)
    kept = checked(values, known, object_type=object_type)
    kept = {**{field.name: field.default for field in known.values() if field.default is not None}, **kept}
    missing(kept, known)
    _refuse_duplicates(org, object_type, kept, of=None)
    org.observations.records_created += 1
    return org.store.insert(object_type, kept, now=now)


def update(org: Org, stored: Stored, values: Mapping[str, Any], *, now: datetime) -> Stored:
    """Change a record.

    Raises:
        RecordFault: it is refused.
    """
    if stored.deleted_at is not None:
        raise RecordFault("ENTITY_IS_DELETED", "entity is deleted", status=404)
    if stored.values.get("IsConverted"):
        # The code and its words are from memory; no recorded answer was found.
        raise RecordFault("CANNOT_UPDATE_CONVERTED_LEAD", "cannot reference converted lead")
    known = org.fields(stored.object_type)
    kept = checked(values, known, object_type=stored.object_type)
    missing({**stored.values, **kept}, known)
    _refuse_duplicates(org, stored.object_type, kept, of=stored)
    org.observations.records_updated += 1
    return org.store.update(stored, kept, now=now)


def upsert(
    org: Org, object_type: str, field_name: str, value: str, values: Mapping[str, Any], *, now: datetime
) -> tuple[Stored, bool]:
    """Change the record that holds ``value``, or make one; says which it was.

    Raises:
        RecordFault: it is refused.
    """
    found = matching(org, object_type, field_name, value)
    rest = {name: item for name, item in values.items() if name.lower() != field_name.lower()}
    if len(found) > 1:
        raise RecordFault(
            "DUPLICATE_EXTERNAL_ID", f"{field_name}: more than one record found for external id field: {value}"
        )
    if found:
        return update(org, found[0], rest, now=now), False
    return create(org, object_type, {**rest, field_name: value}, now=now), True


def matching(org: Org, object_type: str, field_name: str, value: str) -> list[Stored]:
    """The living records whose external id is ``value``.

    Raises:
        RecordFault: the field is no external id, or the value is empty.
    """
    known = org.fields(object_type)
    field = next((item for item in known.values() if item.name.lower() == field_name.lower()), None)
    if field is None or not field.external_id:
        raise RecordFault(
            "INVALID_FIELD",
            f"Field name provided, {field_name} is not an External ID or indexed field for {object_type}",
        )
    if not value:
        raise RecordFault("MISSING_ARGUMENT", f"{field.name} not specified")
    return org.store.by_key(object_type, value)


def convert(org: Org, lead: Stored, *, now: datetime) -> Stored:
    """Make a contact of a lead, as people do in Salesforce; returns the contact."""
    of_contact = org.fields("Contact")
    key = org.options.key_property
    values = {
        name: value for name, value in lead.values.items() if name in of_contact and not of_contact[name].read_only
    }
    values.pop(key, None)
    contact = org.store.insert("Contact", values, now=now)
    org.store.update(lead, {"IsConverted": True, "ConvertedContactId": contact.id}, now=now)
    return contact


def _refuse_duplicates(org: Org, object_type: str, values: Mapping[str, Value], *, of: Stored | None) -> None:
    key = values.get(org.options.key_property)
    own = None if of is None else of.number
    if key and org.options.unique_key:
        others = [item for item in org.store.by_key(object_type, str(key)) if item.number != own]
        if others:
            raise RecordFault(
                "DUPLICATE_VALUE",
                f"duplicate value found: {org.options.key_property} duplicates value on record with id: {others[0].id}",
            )
    email = values.get("Email")
    before = None if of is None else of.values.get("Email")
    if not org.options.duplicate_rule or not email or email == before:
        return
    others = [item for item in org.store.by_email(object_type, str(email)) if item.number != own]
    if others:
        raise RecordFault(
            "DUPLICATES_DETECTED", "Use one of these records?", more={"duplicateResult": _duplicates(others)}
        )


def _duplicates(others: list[Stored]) -> dict[str, Any]:
    """As the answer to a request about one record has it; collections do not tell it."""
    object_type = others[0].object_type
    return {
        "allowSave": False,
        "duplicateRule": f"Standard_{object_type}_Duplicate_Rule",
        "duplicateRuleEntityType": object_type,
        "errorMessage": "Use one of these records?",
        "matchResults": [
            {
                "entityType": object_type,
                "errors": [],
                "matchEngine": "ExactMatchEngine",
                "matchRecords": [
                    {
                        "additionalInformation": [],
                        "fieldDiffs": [],
                        "matchConfidence": 100.0,
                        "record": {"attributes": {"type": object_type}, "Id": item.id},
                    }
                    for item in others
                ],
                "rule": f"Standard_{object_type}_Match_Rule_v1_0",
                "size": len(others),
                "success": True,
            }
        ],
    }
