"""The leads of a chunk as identity resolution takes them up: which are new, which look otherwise than they did.

Keep out: what they are compared with (``matching.weighing``) and whose they are (``steps.deduped_leads``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.ids import ContactId
from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.storage import identity, identity_writing
from leads_pipeline.storage.identity import ArrivingLead


@dataclass(frozen=True)
class Arrivals:
    """The leads to be compared. A chunk's ``confirmed`` leads look as they did and stay where they are.

    ``leads`` come first among the records, in the order of their ids. ``contact_of`` names the contact of those that
    bring it along; a corrected lead whose contact has others comes ``loose``: it names the contact that it may leave.
    Leads in ``spoken_for`` are here only because the record that spoke for them went; they are not assigned anew.
    """

    leads: list[ArrivingLead]
    confirmed: list[ArrivingLead] = field(default_factory=list)
    contact_of: Mapping[UUID, ContactId] = field(default_factory=dict)
    loose: Mapping[UUID, ContactId] = field(default_factory=dict)
    spoken_for: frozenset[UUID] = frozenset()
    forgotten: int = 0


def known_contact(lead: ArrivingLead) -> ContactId:
    """The contact of a lead that was resolved before."""
    assert lead.known_contact_id is not None
    return lead.known_contact_id


def sort_out(
    connection: sa.Connection, tenant: str, unsettled: Sequence[ArrivingLead], *, max_records: int
) -> Arrivals:
    """Tell new leads from corrected ones, and take away what the corrected ones were known by.

    ``max_records``: of a contact, so many are looked at.
    """
    known = {lead.lead_id: lead for lead in unsettled if lead.known_contact_id is not None}
    if not known:
        return Arrivals(list(unsettled))
    before = identity.read_resolved_as(connection, known)
    confirmed = {lead_id for lead_id, lead in known.items() if before.get(lead_id) == lead.fields}
    changed = [lead for lead_id, lead in known.items() if lead_id not in confirmed]
    # A verdict on the address is no other person: it may join somebody by it, and does not leave.
    corrected = [
        lead for lead in changed if _unverified(lead.fields) != _unverified(before.get(lead.lead_id, MatchFields()))
    ]
    loose = _loose(connection, corrected)
    contacts = {lead.lead_id: known_contact(lead) for lead in changed if lead.lead_id not in loose}
    forgotten, spoken_for = 0, []
    if changed:
        forgotten = identity_writing.remove_appearances(connection, [lead.lead_id for lead in changed])
        spoken_for = _spoken_for(connection, tenant, changed, max_records=max_records)
        contacts |= {lead.lead_id: known_contact(lead) for lead in spoken_for}
    leads = [*(lead for lead in unsettled if lead.lead_id not in confirmed), *spoken_for]
    return Arrivals(
        leads=sorted(leads, key=lambda lead: lead.lead_id.int),
        confirmed=[known[lead_id] for lead_id in sorted(confirmed)],
        contact_of=contacts,
        loose=loose,
        spoken_for=frozenset(lead.lead_id for lead in spoken_for),
        forgotten=forgotten,
    )


def _spoken_for(
    connection: sa.Connection, tenant: str, changed: Sequence[ArrivingLead], *, max_records: int
) -> list[ArrivingLead]:
    """Of the leads for which a record that went spoke, one for each look that no other record has."""
    contacts = {known_contact(lead) for lead in changed}
    records = identity.read_records_of(connection, contacts, limit=max_records)
    seen = {(record.contact_id, record.fields) for record in records}
    gone = {lead.lead_id for lead in changed}
    speaking: list[ArrivingLead] = []
    for lead in identity.read_unrecorded(connection, tenant, contacts):
        look = (known_contact(lead), lead.fields)
        if lead.lead_id not in gone and look not in seen:
            seen.add(look)
            speaking.append(lead)
    return speaking


def _loose(connection: sa.Connection, corrected: Sequence[ArrivingLead]) -> dict[UUID, ContactId]:
    """The corrected leads that may leave their contact: all, but one has to stay where no other lead does."""
    if not corrected:
        return {}
    loose = {lead.lead_id: known_contact(lead) for lead in corrected}
    members = identity.read_members(connection, set(loose.values()), limit=len(loose) + 1)
    for founder, lead_ids in members.values():
        if all(lead_id in loose for lead_id in lead_ids):
            del loose[founder if founder in lead_ids else lead_ids[0]]
    return loose


def _unverified(fields: MatchFields) -> MatchFields:
    return replace(fields, email_verified=False)
