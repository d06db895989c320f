"""Contacts as an operator looks at them: found by any id or address, with their leads, destinations and standing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.identity_log import Decision, Link
from leads_pipeline.domain.ids import ContactId, LeadId
from leads_pipeline.domain.survivorship import GOLDEN_FIELDS
from leads_pipeline.storage.contact_links import links_of
from leads_pipeline.storage.contact_log import decisions_about
from leads_pipeline.storage.golden import uuid_array


@dataclass(frozen=True, slots=True)
class FoundContact:
    """A living contact. ``asked_for`` was merged into it, or is one of its leads, where it is another id."""

    tenant: str
    contact_id: ContactId
    asked_for: UUID
    by_lead: bool


@dataclass(frozen=True, slots=True)
class ContactLead:
    """A lead of a contact. ``golden_version``: the first that includes it."""

    lead_id: LeadId
    revision: int
    source: str
    received_at: datetime
    decision: str
    golden_version: int | None


@dataclass(frozen=True, slots=True)
class ContactDestination:
    """What a destination has of a contact, and is to have."""

    destination: str
    operation: str
    state: str
    wanted_version: int
    delivered_version: int | None
    crm_record_id: str | None


@dataclass(frozen=True)
class ContactCard:
    """A contact as it stands. ``golden`` is its golden row by column; missing until it was made.

    ``merged``: contacts that were merged into it. ``waits``: it is to be made anew. ``email_holder``: who holds the
    e-mail address that it awaits.
    """

    tenant: str
    contact_id: ContactId
    founding_lead_id: LeadId
    created_at: datetime
    golden: Mapping[str, Any] | None
    leads: Sequence[ContactLead]
    destinations: Sequence[ContactDestination]
    merged: Sequence[ContactId]
    links: Sequence[Link]
    open_reviews: Sequence[UUID]
    waits: bool
    email_holder: ContactId | None = None


_FIND = sa.text(
    """
    select tenant, coalesce(merged_into, contact_id) as contact_id, false as by_lead from contacts
    where contact_id = :id
    union all
    select tenant, contact_id, true from deduped_leads where lead_id = :id
    limit 1
    """
)

_BY_KEY = """
    select distinct c.tenant, c.contact_id
    from match_records m join contacts c on c.contact_id = m.contact_id
    where m.{column} = :key and c.merged_into is null
    order by c.tenant, c.contact_id
"""

_CONTACT = sa.text("select tenant, founding_lead_id, created_at from contacts where contact_id = :id")
_GOLDEN = sa.text("select * from golden_contacts where contact_id = :id")
_HOLDER = sa.text("select contact_id from golden_contacts where tenant = :tenant and email_key = :key")
_MERGED = sa.text("select contact_id from contacts where merged_into = :id order by contact_id")
_LEADS = sa.text(
    """
    select d.lead_id, d.revision, v.source, v.received_at, d.decision, d.golden_version
    from deduped_leads d join validated_leads v on v.lead_id = d.lead_id and v.revision = d.revision
    where d.contact_id = :id
    order by v.received_at, d.lead_id
    """
)
_DESTINATIONS = sa.text(
    """
    select destination, operation, state, wanted_version, delivered_version, crm_record_id from outbox
    where contact_id = :id order by destination
    """
)
_REVIEWS = sa.text(
    """
    select r.review_id from deduped_leads d join match_reviews r on r.lead_id = d.lead_id
    where d.contact_id = :id and r.state = 'open'
    union
    select r.review_id from deduped_leads d join match_reviews r on r.other_lead_id = d.lead_id
    where d.contact_id = :id and r.state = 'open'
    order by review_id
    """
)
_WAITS = sa.text("select exists (select from pending where stage = 'golden_contacts' and subject_id = :id)")

_VALUES = sa.text(
    f"""
    select d.lead_id, {", ".join(f"v.{name}" for name in GOLDEN_FIELDS)}
    from deduped_leads d join validated_leads v on v.lead_id = d.lead_id and v.revision = d.revision
    where d.tenant = :tenant and d.lead_id = any(cast(:leads as uuid[]))
    """  # noqa: S608 - names of columns
)


def find_contact(connection: sa.Connection, item: UUID) -> FoundContact | None:
    """The living contact that an id stands for: its own, one that was merged into it, or one of its leads'."""
    row = connection.execute(_FIND, {"id": item}).one_or_none()
    return None if row is None else FoundContact(row.tenant, ContactId(row.contact_id), item, row.by_lead)


def contacts_by_email(connection: sa.Connection, email_key: str) -> list[tuple[str, ContactId]]:
    """Tenant and id of the contacts that have shown this address, as matching compares it."""
    return _by_key(connection, "email_key", email_key)


def contacts_by_phone(connection: sa.Connection, phone_key: str) -> list[tuple[str, ContactId]]:
    """Tenant and id of the contacts that have shown this number, in E.164."""
    return _by_key(connection, "phone_key", phone_key)


def read_card(connection: sa.Connection, contact: ContactId) -> ContactCard | None:
    """Everything about a contact, as it stands."""
    given = {"id": contact}
    row = connection.execute(_CONTACT, given).one_or_none()
    if row is None:
        return None
    golden = connection.execute(_GOLDEN, given).mappings().one_or_none()
    awaited = golden["awaited_email_key"] if golden else None
    holder = connection.execute(_HOLDER, {"tenant": row.tenant, "key": awaited}).scalar() if awaited else None
    leads = [ContactLead(**item) for item in connection.execute(_LEADS, given).mappings()]
    return ContactCard(
        tenant=row.tenant,
        contact_id=contact,
        founding_lead_id=LeadId(row.founding_lead_id),
        created_at=row.created_at,
        golden=dict(golden) if golden else None,
        leads=leads,
        destinations=[ContactDestination(**item) for item in connection.execute(_DESTINATIONS, given).mappings()],
        merged=[ContactId(item.contact_id) for item in connection.execute(_MERGED, given)],
        links=links_of(connection, row.tenant, [lead.lead_id for lead in leads]),
        open_reviews=[item.review_id for item in connection.execute(_REVIEWS, given)],
        waits=bool(connection.execute(_WAITS, given).scalar_one()),
        email_holder=ContactId(holder) if holder else None,
    )


def read_history(connection: sa.Connection, tenant: str, contact: ContactId) -> list[Decision]:
    """Every decision about a contact and those that were merged into it, oldest first."""
    merged = [ContactId(row.contact_id) for row in connection.execute(_MERGED, {"id": contact})]
    return decisions_about(connection, tenant, [contact, *merged])


def read_values(connection: sa.Connection, tenant: str, leads: Iterable[LeadId]) -> dict[LeadId, Mapping[str, Any]]:
    """What each lead gave, by field: personal data."""
    rows = connection.execute(_VALUES, {"tenant": tenant, "leads": uuid_array(leads)}).mappings()
    return {LeadId(row["lead_id"]): {name: row[name] for name in GOLDEN_FIELDS if row[name]} for row in rows}


def _by_key(connection: sa.Connection, column: str, key: str) -> list[tuple[str, ContactId]]:
    statement = sa.text(_BY_KEY.format(column=column))
    return [(row.tenant, ContactId(row.contact_id)) for row in connection.execute(statement, {"key": key})]
