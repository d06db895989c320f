"""What a person says about who is whom: merge two contacts, split one, link two leads or keep them apart.

Each is one decision in the log, with an inverse (``contact_undo``), and leaves a link between leads, so that whatever
is resolved later keeps to it. Each is one transaction under the tenant's identity lock; the golden records of all
contacts concerned, and what CRMs are to have, follow by the usual way.
"""

from collections.abc import Collection
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.ids import LeadId
from leads_pipeline.matching.lead_weights import ScorerOf, loaded, weigher
from leads_pipeline.storage.contact_deciding import Decided, Ruling, deciding
from leads_pipeline.storage.contact_rulings import (
    link_leads,
    merge_contacts,
    split_contact,
    tenant_of,
    unlink_leads,
)
from leads_pipeline.storage.contact_state import contacts_of
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)


def merge(engine: sa.Engine, contact: UUID, other: UUID, ruling: Ruling) -> Decided:
    """Make two contacts one; the older survives. Each may be named by its id or by one of its leads.

    Raises:
        NotFound: there is no such contact.
        IdentityRefused: they are one already, or a cannot-link forbids it and is not to be withdrawn.
    """
    tenant = _tenant(engine, contact, other)
    with deciding(engine, tenant, dry_run=ruling.dry_run) as connection:
        decided = merge_contacts(connection, tenant, contact, other, ruling)
    return _logged(decided, ruling)


def split(engine: sa.Engine, contact: UUID, leads: Collection[UUID], ruling: Ruling) -> Decided:
    """Take ``leads`` out of a contact, into one of their own. The larger part keeps the id, whichever that is.

    Raises:
        NotFound: there is no such contact.
        IdentityRefused: a lead is not the contact's, none would stay, or a must-link forbids it.
    """
    tenant = _tenant(engine, contact)
    with deciding(engine, tenant, dry_run=ruling.dry_run) as connection:
        decided = split_contact(connection, tenant, contact, leads, ruling)
    return _logged(decided, ruling)


def link(engine: sa.Engine, lead: UUID, other: UUID, ruling: Ruling) -> Decided:
    """Say that two leads are one person's: their contacts are merged, and later runs keep to it.

    Raises:
        NotFound: a lead belongs to no contact.
        IdentityRefused: a cannot-link forbids it and is not to be withdrawn.
    """
    tenant = _tenant(engine, lead, other)
    with deciding(engine, tenant, dry_run=ruling.dry_run) as connection:
        decided = link_leads(connection, tenant, LeadId(lead), LeadId(other), ruling)
    return _logged(decided, ruling)


def unlink(engine: sa.Engine, lead: UUID, other: UUID, ruling: Ruling, *, scorer_of: ScorerOf) -> Decided:
    """Say that two leads are not one person's: where they are one contact's, it is taken apart between them.

    Its other leads go with the one of the two that the better evidence leads to, as the tenant's model weighs it.

    Raises:
        NotFound: a lead belongs to no contact.
        IdentityRefused: a must-link forbids it and is not to be withdrawn.
    """
    tenant = _tenant(engine, lead, other)
    with engine.connect() as connection:
        together = len(set(contacts_of(connection, tenant, [LeadId(lead), LeadId(other)]).values())) == 1
    if together:
        scorer_of = loaded(scorer_of, tenant)
    with deciding(engine, tenant, dry_run=ruling.dry_run) as connection:
        weigh = weigher(connection, tenant, scorer_of)
        decided = unlink_leads(connection, tenant, LeadId(lead), LeadId(other), ruling, weigh=weigh)
    return _logged(decided, ruling)


def _tenant(engine: sa.Engine, *ids: UUID) -> str:
    with engine.connect() as connection:
        return tenant_of(connection, *ids)


def _logged(decided: Decided, ruling: Ruling) -> Decided:
    if decided.merge_id is not None and not ruling.dry_run:
        log.info(
            "contact_decision",
            kind=decided.kind,
            merge_id=str(decided.merge_id),
            contact_id=str(decided.contact_id),
            actor=ruling.actor,
            leads=len(decided.moved),
        )
    return decided
