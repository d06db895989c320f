"""What a person says about who is whom, inside a transaction that ``contact_deciding.deciding`` has opened.

Two contacts merged, one split, two leads linked or kept apart: each is one decision in the log with its inverse, and
leaves a link between leads, so that whatever is resolved later keeps to it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import combinations
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.identity_change import Change, merged, nearer, parted
from leads_pipeline.domain.identity_log import DecisionKind, LinkKind
from leads_pipeline.domain.ids import ContactId, LeadId, uuid7
from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.errors import IdentityRefused, NotFound
from leads_pipeline.storage.contact_deciding import Decided, Links, Ruling, decide
from leads_pipeline.storage.contact_links import links_of
from leads_pipeline.storage.contact_reading import find_contact
from leads_pipeline.storage.contact_state import FoundContacts, contacts_of, match_fields_of, read_contacts

LeadPair = tuple[LeadId, LeadId]
# What the model makes of pairs of leads.
Weigh = Callable[[Mapping[LeadId, MatchFields], Sequence[LeadPair]], Mapping[LeadPair, float]]

# All pairs of so many leads are scored in about a second; of more, only those with one of the two told apart.
MAX_LEADS_COMPARED = 100
_CERTAIN = float("inf")


def tenant_of(connection: sa.Connection, *ids: UUID) -> str:
    """The tenant of contacts or leads.

    Raises:
        NotFound: there is no such contact, or lead with a contact.
        IdentityRefused: they are of several tenants.
    """
    found = [_found(connection, item)[0] for item in ids]
    if len(set(found)) > 1:
        raise IdentityRefused(f"{ids[0]} is {found[0]}'s and {ids[-1]} is {found[-1]}'s: tenants share no contacts")
    return found[0]


def merge_contacts(connection: sa.Connection, tenant: str, contact: UUID, other: UUID, ruling: Ruling) -> Decided:
    """Make two contacts one, each named by its id or by a lead."""
    one, two = _found(connection, contact)[1], _found(connection, other)[1]
    if one == two:
        raise IdentityRefused(f"{contact} and {other} are one contact already: {one}")
    found = read_contacts(connection, tenant, [one, two])
    links = Links(make=[(LinkKind.MUST, found.state.leads_of(one), found.state.leads_of(two))])
    return _merge(connection, tenant, found, one, two, ruling, kind=DecisionKind.MERGE, links=links)


def split_contact(
    connection: sa.Connection, tenant: str, contact: UUID, leads: Collection[UUID], ruling: Ruling
) -> Decided:
    """Take leads out of a contact, into one of their own."""
    whole = _found(connection, contact)[1]
    found = read_contacts(connection, tenant, [whole])
    members = found.state.leads_of(whole)
    part = frozenset(LeadId(lead) for lead in leads)
    if strangers := sorted(part - members):
        raise IdentityRefused(f"lead {strangers[0]} does not belong to contact {whole}")
    if part == members:
        raise IdentityRefused(f"these are all leads of contact {whole}: nothing would be left of it")
    links = Links(make=[(LinkKind.CANNOT, part, members - part)])
    return _part(connection, tenant, found, whole, part, ruling, kind=DecisionKind.SPLIT, links=links)


def link_leads(connection: sa.Connection, tenant: str, lead: LeadId, other: LeadId, ruling: Ruling) -> Decided:
    """Say that two leads are one person's; their contacts are merged."""
    one, two = _contacts_of(connection, tenant, lead, other)
    found = read_contacts(connection, tenant, [one, two])
    if one == two and _linked(connection, tenant, lead, other, LinkKind.MUST):
        return Decided(tenant, DecisionKind.LINK, None, one, None, dry_run=ruling.dry_run)
    links = Links(make=[(LinkKind.MUST, {lead}, {other})])
    return _merge(connection, tenant, found, one, two, ruling, kind=DecisionKind.LINK, links=links)


def unlink_leads(
    connection: sa.Connection, tenant: str, lead: LeadId, other: LeadId, ruling: Ruling, *, weigh: Weigh
) -> Decided:
    """Say that two leads are not one person's; where they are one contact's, it is taken apart between them."""
    one, two = _contacts_of(connection, tenant, lead, other)
    found = read_contacts(connection, tenant, [one, two])
    links = Links(make=[(LinkKind.CANNOT, {lead}, {other})])
    kind = DecisionKind.UNLINK
    if one == two:
        part = _nearer_to(connection, tenant, found, lead, other, weigh)
        return _part(connection, tenant, found, one, part, ruling, kind=kind, links=links)
    if _linked(connection, tenant, lead, other, LinkKind.CANNOT):
        return Decided(tenant, kind, None, one, two, dry_run=ruling.dry_run)
    return decide(connection, ruling, tenant, found, Change(), kind=kind, contact=one, other=two, links=links)


def _merge(
    connection: sa.Connection,
    tenant: str,
    found: FoundContacts,
    one: ContactId,
    two: ContactId,
    ruling: Ruling,
    *,
    kind: DecisionKind,
    links: Links,
) -> Decided:
    change = Change() if one == two else merged(found.state, one, two)
    gone = None if one == two else max(one, two)
    return decide(connection, ruling, tenant, found, change, kind=kind, contact=min(one, two), other=gone, links=links)


def _part(
    connection: sa.Connection,
    tenant: str,
    found: FoundContacts,
    whole: ContactId,
    part: frozenset[LeadId],
    ruling: Ruling,
    *,
    kind: DecisionKind,
    links: Links,
) -> Decided:
    change = parted(found.state, whole, part, new_id=lambda: uuid7(ruling.now))
    (founded,) = change.founded
    return decide(connection, ruling, tenant, found, change, kind=kind, contact=whole, other=founded, links=links)


def _nearer_to(
    connection: sa.Connection, tenant: str, found: FoundContacts, lead: LeadId, other: LeadId, weigh: Weigh
) -> frozenset[LeadId]:
    """The leads of the contact that go with ``other``."""
    leads = frozenset(found.state.contact_of)
    fields = match_fields_of(connection, tenant, leads)
    pairs = [
        (one, two)
        for one, two in combinations(sorted(fields), 2)
        if len(fields) <= MAX_LEADS_COMPARED or lead in (one, two) or other in (one, two)
    ]
    weights = dict(weigh(fields, [pair for pair in pairs if set(pair) != {lead, other}]))
    # What a person has said comes before what the model says; but for what says the very opposite of this.
    for item in links_of(connection, tenant, leads):
        opposite = any(lead in one and other in two for one, two in (item.sides, item.sides[::-1]))
        if item.kind is LinkKind.MUST and not opposite:
            weights.update(
                ((min(one, two), max(one, two)), _CERTAIN)
                for one in item.sides[0] & leads
                for two in item.sides[1] & leads
            )
    return nearer(lead, other, leads, weights)[1]


def _linked(connection: sa.Connection, tenant: str, lead: LeadId, other: LeadId, kind: LinkKind) -> bool:
    """Whether a link in force names just these two."""
    sides = {(frozenset({lead}), frozenset({other})), (frozenset({other}), frozenset({lead}))}
    return any(item.kind is kind and item.sides in sides for item in links_of(connection, tenant, [lead]))


def _contacts_of(connection: sa.Connection, tenant: str, lead: LeadId, other: LeadId) -> tuple[ContactId, ContactId]:
    if lead == other:
        raise IdentityRefused(f"{lead} was named twice: a link is between two leads")
    found = contacts_of(connection, tenant, [lead, other])
    for item in (lead, other):
        if item not in found:
            raise NotFound(f"lead {item} belongs to no contact (yet); `leads journey {item}` tells where it is")
    return found[lead], found[other]


def _found(connection: sa.Connection, item: UUID) -> tuple[str, ContactId]:
    found = find_contact(connection, item)
    if found is None:
        raise NotFound(f"there is no contact {item}, and no lead of this id that belongs to one")
    return found.tenant, found.contact_id
