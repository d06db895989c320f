"""Which leads a golden contact has a value from: whoever corrects the contact corrects them."""

from collections.abc import Collection
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.storage.schema import deduped_leads, golden_contacts, validated_leads


def leads_behind(connection: sa.Connection, contact_id: UUID, field: str, *, beside: Collection[str]) -> list[UUID]:
    """The leads that must change for the contact's ``field`` to change, in the order of their ids.

    All that say the same, because the next one would speak up where only the first is corrected. Where the contact has
    no such value, the lead that ``beside``, the fields that survive together with it, came from; else its newest one.
    Empty if there is no such contact.
    """
    golden = connection.execute(
        sa.select(golden_contacts).where(golden_contacts.c.contact_id == contact_id)
    ).mappings().one_or_none()  # fmt: skip
    if golden is None:
        return []
    its_leads = (
        sa.select(validated_leads.c.lead_id)
        .join(
            deduped_leads,
            sa.and_(
                deduped_leads.c.lead_id == validated_leads.c.lead_id,
                deduped_leads.c.revision == validated_leads.c.revision,
            ),
        )
        .where(deduped_leads.c.contact_id == contact_id)
    )
    found: set[UUID] = set()
    if golden[field] is not None:
        found |= set(connection.execute(its_leads.where(validated_leads.c[field] == golden[field])).scalars())
    origins = [golden["provenance"][name]["lead_id"] for name in (field, *beside) if name in golden["provenance"]]
    if not found and origins:
        found.add(UUID(origins[0]))
    if not found:
        newest = its_leads.order_by(validated_leads.c.received_at.desc(), validated_leads.c.lead_id.desc()).limit(1)
        found |= set(connection.execute(newest).scalars())
    return sorted(found)
