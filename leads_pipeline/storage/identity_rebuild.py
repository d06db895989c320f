"""All leads of a tenant as they were resolved, read in one snapshot by a server-side cursor: for a full resolution.

What it changes is written by ``storage.contact_state``, as any other decision.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.identity_log import LinkKind
from leads_pipeline.domain.ids import ContactId, LeadId
from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.storage.identity import RESOLVED_COLUMNS, VERDICT_JOIN, resolved_fields


@dataclass(frozen=True, slots=True)
class ResolvedLead:
    """A lead, what it was resolved with, and the contact that it belongs to. ``founding``: it founded it."""

    lead_id: LeadId
    revision: int
    contact_id: ContactId
    founding: bool
    fields: MatchFields


@dataclass(frozen=True, slots=True)
class LinkSides:
    """A link in force: its kind, and the leads on its two sides.

    As in the micro-batch a cannot-link is between contacts: all leads of those that hold a lead of one side are of that
    side, so that no rebuild answers what a person was asked about them. One that holds leads of both lends itself to
    neither. The price: a lead that was wrongly joined to such a contact is taken out of it if nothing ties it there,
    but is not put into the contact across the link before a person or a rebuild has taken it out.
    """

    kind: str
    sides: tuple[frozenset[LeadId], frozenset[LeadId]]


# The revision that each lead was resolved with: a later one is still on its way and will be resolved by itself.
_LEADS = sa.text(
    f"""
    select {RESOLVED_COLUMNS}, d.contact_id, c.founding_lead_id = d.lead_id as founding
    from deduped_leads d
    join contacts c on c.contact_id = d.contact_id
    join validated_leads v on v.lead_id = d.lead_id and v.revision = d.revision
    {VERDICT_JOIN}
    where d.tenant = :tenant
    order by d.lead_id
    """  # noqa: S608 - names of columns
)

_LINKS = sa.text(
    """
    with in_force as (
        select l.link_id, l.kind, m.lead_id, m.side
        from identity_links l join identity_link_leads m using (link_id)
        where l.tenant = :tenant and l.withdrawn_at is null
    ), beside as (
        select l.link_id, l.kind, d.contact_id, min(l.side) as side
        from in_force l join deduped_leads d using (lead_id)
        where l.kind = :cannot
        group by l.link_id, l.kind, d.contact_id
        having min(l.side) = max(l.side)
    )
    select link_id, kind, lead_id, side from in_force
    union
    select b.link_id, b.kind, d.lead_id, b.side from beside b join deduped_leads d using (contact_id)
    order by link_id
    """
)


def begin_snapshot(connection: sa.Connection) -> None:
    """Let everything that this transaction reads be of one moment. To be called before anything is read."""
    connection.execute(sa.text("set transaction isolation level repeatable read, read only"))


def stream_leads(connection: sa.Connection, tenant: str, *, at_once: int) -> Iterator[list[ResolvedLead]]:
    """Every lead of the tenant that has a contact, by id: in slices, of which the driver holds one."""
    streaming = connection.execution_options(stream_results=True, yield_per=at_once)
    for rows in streaming.execute(_LEADS, {"tenant": tenant}).partitions():
        yield [_lead(row) for row in rows]


def read_all_links(connection: sa.Connection, tenant: str) -> list[LinkSides]:
    """The tenant's links in force."""
    sides: dict[UUID, tuple[str, tuple[set[LeadId], set[LeadId]]]] = {}
    for row in connection.execute(_LINKS, {"tenant": tenant, "cannot": LinkKind.CANNOT.value}):
        sides.setdefault(row.link_id, (row.kind, (set(), set())))[1][row.side].add(LeadId(row.lead_id))
    return [LinkSides(kind, (frozenset(one), frozenset(other))) for kind, (one, other) in sides.values()]


def _lead(row: Any) -> ResolvedLead:
    return ResolvedLead(
        LeadId(row.lead_id), row.revision, ContactId(row.contact_id), row.founding, resolved_fields(row)
    )
