"""Writing one contact: create, update, upsert. A refusal is a value, and nothing has been written then."""

from collections.abc import Mapping
from dataclasses import dataclass

from leads_pipeline.crm.sandbox.hubspot.answers import (
    PropertyFault,
    Refusal,
    already_exists,
    invalid,
    invalid_properties,
    not_found,
)
from leads_pipeline.crm.sandbox.hubspot.calls import Call
from leads_pipeline.crm.sandbox.hubspot.properties import EMAIL, check_values
from leads_pipeline.crm.sandbox.hubspot.store import Contact

OBJECT_ID = "hs_object_id"


@dataclass(frozen=True, slots=True)
class Written:
    """A record that was written, and the values that were sent for it."""

    contact: Contact
    sent: dict[str, str]
    new: bool


def create_contact(call: Call, values: Mapping[str, str | None]) -> Written | Refusal:
    """Make a contact, unless a value is wrong or its e-mail or key belongs to another one."""
    store = call.account.store
    kept, faults = check_values(values, store.properties)
    if faults:
        return invalid_properties(faults)
    refusal = _taken(call, kept, by_other_than=None)
    if refusal is not None:
        return refusal
    return Written(store.insert(kept, now=call.now), kept, new=True)


def update_contact(call: Call, contact: Contact, values: Mapping[str, str | None]) -> Written | Refusal:
    """Set the values that were sent; the others stay."""
    store = call.account.store
    kept, faults = check_values(values, store.properties)
    if faults:
        return invalid_properties(faults)
    refusal = _taken(call, kept, by_other_than=contact.id)
    if refusal is not None:
        return refusal
    return Written(store.update(contact, kept, now=call.now), kept, new=False)


def upsert_contact(call: Call, key: str, values: Mapping[str, str | None], *, id_property: str) -> Written | Refusal:
    """Update the contact that holds ``key`` in the unique property ``id_property``, or make it.

    Without an ``idProperty`` the key is a record id, which can only be updated.
    """
    found = find_contact(call, key, id_property=id_property)
    if isinstance(found, Refusal):
        return found
    if found is not None:
        return update_contact(call, found, values)
    if id_property == OBJECT_ID:
        return not_found(key)
    return create_contact(call, {id_property: key, **values})


def find_contact(call: Call, key: str, *, id_property: str) -> Contact | Refusal | None:
    """The living contact with this record id or unique value."""
    store = call.account.store
    if id_property == OBJECT_ID:
        return store.by_id(key)
    item = store.properties.get(id_property)
    if item is None:
        return invalid_properties(
            [PropertyFault(id_property, "PROPERTY_DOESNT_EXIST", f'Property "{id_property}" does not exist')]
        )
    if not item.unique:
        return invalid(f"idProperty {id_property} is not a unique property", propertyName=[id_property])
    return store.by_unique(id_property, key)


def _taken(call: Call, values: Mapping[str, str], *, by_other_than: str | None) -> Refusal | None:
    store = call.account.store
    for name, value in values.items():
        if not value or not store.properties[name].unique:
            continue
        if name == EMAIL and store.identities.is_blocked(value):
            fault = PropertyFault(EMAIL, "GDPR_BLOCKLISTED", "email has been GDPR blacklisted")
            return invalid_properties([fault])
        held_by = store.identities.holder_of(name, value)
        if held_by is None or str(held_by) == by_other_than:
            continue
        holder = str(held_by)
        if name == EMAIL:
            return already_exists(holder)
        message = f"{holder} already has that value."
        return invalid_properties([PropertyFault(name, "CONFLICTING_UNIQUE_VALUE", message)])
    return None
