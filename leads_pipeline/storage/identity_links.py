"""What was decided for good about leads, as identity resolution reads it: cannot-links and must-links.

Links are between leads; what counts is the contacts that those leads are in now. Reading goes from contacts to links by
index, so it costs what the chunk's own contacts have, however many links a tenant keeps. Who makes and withdraws links
is ``storage.contact_*``.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.clustering import NO_LINKS, Edge, Link, Links
from leads_pipeline.domain.ids import ContactId
from leads_pipeline.domain.resolution import Record

MUST, CANNOT = "must", "cannot"


@dataclass(slots=True)
class StoredLink:
    """A link that holds. ``sides``: on each side the leads and the contacts that those leads are in."""

    link_id: UUID
    kind: str
    actor: str
    sides: tuple[dict[UUID, ContactId], dict[UUID, ContactId]] = field(default_factory=lambda: ({}, {}))


_ANY = sa.text("select exists (select from identity_links where tenant = :tenant and withdrawn_at is null)")

# Two steps, so that each begins at an index: from contacts to the leads that are linked, from their links to all leads.
_TOUCHING = sa.text(
    """
    select distinct l.link_id
    from unnest(cast(:contacts as uuid[])) as wanted(contact_id)
    join deduped_leads d on d.contact_id = wanted.contact_id
    join identity_link_leads l on l.lead_id = d.lead_id
    union
    select l.link_id
    from unnest(cast(:leads as uuid[])) as wanted(lead_id)
    join identity_link_leads l on l.lead_id = wanted.lead_id
    """
)

_LINKS = sa.text(
    """
    select i.link_id, i.kind, i.actor, l.lead_id, l.side, d.contact_id
    from unnest(cast(:links as uuid[])) as wanted(link_id)
    join identity_links i on i.link_id = wanted.link_id and i.tenant = :tenant and i.withdrawn_at is null
    join identity_link_leads l on l.link_id = i.link_id
    join deduped_leads d on d.lead_id = l.lead_id
    order by i.made_at, i.link_id, l.lead_id
    """
)


def any_links(connection: sa.Connection, tenant: str) -> bool:
    """Whether the tenant has a link at all."""
    return bool(connection.execute(_ANY, {"tenant": tenant}).scalar_one())


def read_links(
    connection: sa.Connection, tenant: str, *, contacts: Collection[ContactId], leads: Collection[UUID] = ()
) -> list[StoredLink]:
    """The links of these leads, and of any lead that is in one of these contacts, in the order in which they were made.

    A linked lead that has no contact is not in the answer.
    """
    rows = connection.execute(_TOUCHING, {"contacts": list(contacts), "leads": list(leads)})
    touching = [row.link_id for row in rows]
    if not touching:
        return []
    found: dict[UUID, StoredLink] = {}
    for row in connection.execute(_LINKS, {"tenant": tenant, "links": touching}):
        link = found.setdefault(row.link_id, StoredLink(row.link_id, row.kind, row.actor))
        link.sides[row.side][row.lead_id] = ContactId(row.contact_id)
    return list(found.values())


@dataclass(frozen=True)
class PlacedLinks:
    """Links between the records of a chunk, by their places, and who made the must-links."""

    links: Links = NO_LINKS
    actors: Sequence[tuple[Link, str]] = ()

    def actor_of(self, edge: Edge) -> str:
        """Who said that the two records of a must-link's edge belong together."""
        return next(actor for (one, other), actor in self.actors if {edge.left, edge.right} <= one | other)


def placed(found: Iterable[StoredLink], records: Sequence[Record], alone: Collection[UUID]) -> PlacedLinks:
    """``found`` as links between ``records``.

    A lead in ``alone`` speaks for itself only, any other is as good as any record of its contact.
    """
    place_of_contact = {record.contact_id: place for place, record in enumerate(records) if record.contact_id}
    place_of_lead = {record.lead_id: place for place, record in enumerate(records) if record.lead_id in alone}
    cannot: list[Link] = []
    must: list[tuple[Link, str]] = []
    for link in found:
        one, other = (
            {
                place
                for lead_id, contact in side.items()
                if (place := place_of_lead.get(lead_id, place_of_contact.get(contact))) is not None
            }
            for side in link.sides
        )
        if link.kind == MUST:
            if one or other:
                must.append(((one, other), link.actor))
        elif one and other:
            cannot.append((one, other))
    return PlacedLinks(Links(cannot, [link for link, _actor in must]), must)
