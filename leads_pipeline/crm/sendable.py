"""Who of claimed contacts must not be sent, and what a destination is told of them all the same.

Keep out: the rules (``domain.sending_gate``), and who is listed (``storage.suppressions``).
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.delivery import ClaimedRow, PropertyValue
from leads_pipeline.domain.mapping import CONSENT, DestinationMapping
from leads_pipeline.domain.sending_gate import GateRule, Subject, Unsendable, is_withdrawn, refusal, subjects_of
from leads_pipeline.domain.snapshot import difference, unsure
from leads_pipeline.storage.suppressions import listed, merged_away


def unsendable_contacts(
    connection: sa.Connection, contacts: Mapping[UUID, Mapping[str, Any]], *, gate: GateRule, destination: str
) -> dict[UUID, Unsendable]:
    """The contacts that must not be sent, each with why."""
    return judged(connection, contacts, subjects_of_contacts(connection, contacts), gate=gate, destination=destination)


def judged(
    connection: sa.Connection,
    contacts: Mapping[UUID, Mapping[str, Any]],
    subjects: Mapping[UUID, tuple[str, Sequence[Subject]]],
    *,
    gate: GateRule,
    destination: str,
) -> dict[UUID, Unsendable]:
    on_list = listed(connection, subjects, destination=destination)
    judged = {
        contact_id: refusal(contact["consent"], listed=contact_id in on_list, rule=gate)
        for contact_id, contact in contacts.items()
    }
    return {contact_id: reason for contact_id, reason in judged.items() if reason is not None}


def subjects_of_contacts(
    connection: sa.Connection, contacts: Mapping[UUID, Mapping[str, Any]]
) -> dict[UUID, tuple[str, Sequence[Subject]]]:
    """By what each of these contacts may be listed, with its tenant."""
    merged = merged_away(connection, contacts.keys())
    return {
        contact_id: (contact["tenant"], subjects_of(contact, merged_away=merged.get(contact_id, ())))
        for contact_id, contact in contacts.items()
    }


def withdrawn_consent(
    row: ClaimedRow, contact: Mapping[str, Any], mapping: DestinationMapping, *, gate: GateRule
) -> dict[str, PropertyValue]:
    """What the destination must hear of a contact that must not be sent: that consent is withdrawn, if it is.

    Nothing if it knows, or can have nobody. Something of a contact may be there after a request that got lost, or under
    the key of one that was merged into it.
    """
    if not is_withdrawn(contact["consent"], gate) or not (row.snapshot or row.uncertain or row.claims_record):
        return {}
    properties = mapping.properties_of(contact, delivered=row.snapshot.keys()).properties
    consent = {rule.name for rule in mapping.rules if rule.source is not None and rule.source.startswith(CONSENT)}
    said = {name: value for name, value in properties.items() if name in consent}
    known = unsure({}, row.snapshot) if row.uncertain else row.snapshot
    return difference(said, known, contact_id=row.contact_id)
