"""What decisions do to leads and contacts: contacts merged, taken apart, put back as they were.

Two rules hold everywhere: the oldest contact survives a merge, and when a contact is taken apart the part with more
leads keeps its id; of two equal ones, that with the founding lead. A contact is never deleted, it is merged into
another. Keep out: who may decide what (``domain.identity_log``), and SQL.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from uuid import UUID

from leads_pipeline.domain.identity_log import Inverse
from leads_pipeline.domain.ids import ContactId, LeadId


@dataclass(frozen=True)
class IdentityState:
    """Some contacts, and all leads of each: as they stand.

    ``merged_into`` names every contact that is looked at, with ``None`` where it lives; ``founders`` its first lead.
    """

    contact_of: Mapping[LeadId, ContactId]
    merged_into: Mapping[ContactId, ContactId | None]
    founders: Mapping[ContactId, LeadId]

    def leads_of(self, contact: ContactId) -> frozenset[LeadId]:
        return frozenset(lead for lead, owner in self.contact_of.items() if owner == contact)


@dataclass(frozen=True)
class Change:
    """What is to be written: only what differs. ``founded``: contacts that are new, with their first lead."""

    leads: Mapping[LeadId, ContactId] = field(default_factory=dict)
    merged_into: Mapping[ContactId, ContactId | None] = field(default_factory=dict)
    founded: Mapping[ContactId, LeadId] = field(default_factory=dict)
    founders: Mapping[ContactId, LeadId] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.leads or self.merged_into or self.founded)

    def after(self, state: IdentityState) -> dict[LeadId, ContactId]:
        """Whose each lead is then."""
        return {**state.contact_of, **self.leads}

    def touched(self, state: IdentityState) -> frozenset[ContactId]:
        """Every contact whose leads, or whose life, change."""
        return frozenset(
            {
                *self.leads.values(),
                *(state.contact_of[lead] for lead in self.leads),
                *self.merged_into,
                *self.founded,
            }
        )

    def inverse(self, state: IdentityState) -> Inverse:
        """What stood before, without links."""
        source: dict[ContactId, ContactId] = {}
        for lead, contact in self.leads.items():
            source.setdefault(contact, state.contact_of[lead])
        before: dict[ContactId, ContactId | None] = {
            contact: state.merged_into[contact] for contact in self.merged_into
        }
        before.update((contact, source[contact]) for contact in self.founded)
        return Inverse(
            leads={lead: state.contact_of[lead] for lead in self.leads},
            contacts=before,
            founders={contact: state.founders[contact] for contact in self.founders},
        )

    def applied(self, state: IdentityState) -> IdentityState:
        """The state that it leaves."""
        return IdentityState(
            self.after(state),
            {**state.merged_into, **dict.fromkeys(self.founded), **self.merged_into},
            {**state.founders, **self.founded, **self.founders},
        )

    def contacts_more(self, state: IdentityState) -> int:
        """By how many the living contacts become more; negative if fewer."""
        lived = sum(state.merged_into[contact] is None for contact in self.merged_into)
        live = sum(into is None for into in self.merged_into.values())
        return len(self.founded) + live - lived


def merged(state: IdentityState, one: ContactId, other: ContactId) -> Change:
    """Merge two living contacts: the older survives, and takes whatever was merged into the other."""
    survivor, gone = min(one, other), max(one, other)
    return _settled(
        state,
        leads=dict.fromkeys(state.leads_of(gone), survivor),
        merged_into={contact: survivor for contact, into in state.merged_into.items() if gone in (contact, into)},
    )


def parted(
    state: IdentityState, contact: ContactId, part: AbstractSet[LeadId], *, new_id: Callable[[], UUID]
) -> Change:
    """Take ``part`` and the rest of a contact's leads apart; the larger of the two keeps the id."""
    rest = state.leads_of(contact) - part
    leaving = min(part, rest, key=lambda leads: (len(leads), state.founders.get(contact) in leads, sorted(leads)))
    founded = ContactId(new_id())
    return _settled(state, leads=dict.fromkeys(leaving, founded), founded={founded: min(leaving)})


def moved(state: IdentityState, leads: AbstractSet[LeadId], contact: ContactId) -> Change:
    """Put ``leads`` into ``contact``, which they found if it is not among those that are looked at."""
    founded = {} if contact in state.merged_into else {contact: min(leads)}
    return _settled(state, leads=dict.fromkeys(leads, contact), founded=founded)


def restored(
    state: IdentityState,
    inverse: Inverse,
    moved: AbstractSet[LeadId],
    followers: AbstractSet[LeadId] = frozenset(),
    *,
    new_id: Callable[[], UUID],
) -> Change:
    """Put back what ``inverse`` says. Leads that were nobody's become a contact of their own.

    ``moved``: the leads that the decision moved; those that are gone since stay gone. ``followers`` came later, and go
    with them. Whoever is in a contact that goes, goes with it.
    """
    founded: dict[ContactId, LeadId] = {}
    leads: dict[LeadId, ContactId] = {}
    unowned = {lead for lead in moved if lead in state.contact_of and inverse.leads.get(lead) is None}
    if unowned:
        fresh = ContactId(new_id())
        founded[fresh] = min(unowned)
        leads.update(dict.fromkeys(unowned, fresh))
    for lead in moved - unowned:
        target = inverse.leads.get(lead)
        if lead in state.contact_of and target is not None:
            leads[lead] = target
    if followers and leads:
        # A decision brings leads from one contact; where a full resolution brought them from several, the first.
        leads.update(dict.fromkeys(followers, leads[min(leads)]))
    into = dict(inverse.contacts)
    for lead, owner in state.contact_of.items():
        heir = into.get(owner)
        if heir is not None and lead not in leads:
            leads[lead] = heir
    # A contact that is left without leads, because the decision had made it, goes where they go.
    emptied = {state.contact_of[lead] for lead in leads} - set(leads.values()) - into.keys()
    for contact in emptied - {owner for lead, owner in state.contact_of.items() if lead not in leads}:
        into[contact] = next(leads[lead] for lead in sorted(leads) if state.contact_of[lead] == contact)
    # Whatever was merged, meanwhile, into a contact that goes, goes with it.
    for contact, survivor in state.merged_into.items():
        heir = into.get(survivor) if survivor is not None else None
        if heir is not None and contact not in into:
            into[contact] = heir
    return _settled(state, leads=leads, merged_into=into, founded=founded, founders=inverse.founders)


def _settled(
    state: IdentityState,
    *,
    leads: Mapping[LeadId, ContactId],
    merged_into: Mapping[ContactId, ContactId | None] | None = None,
    founded: Mapping[ContactId, LeadId] | None = None,
    founders: Mapping[ContactId, LeadId] | None = None,
) -> Change:
    """Only what differs; and a contact whose founding lead went elsewhere counts from its oldest one."""
    founded, into = dict(founded or {}), dict(merged_into or {})
    after = {**state.contact_of, **leads}
    first = {**state.founders, **(founders or {}), **founded}
    lives = {**state.merged_into, **into, **dict.fromkeys(founded)}
    members: dict[ContactId, list[LeadId]] = defaultdict(list)
    for lead, contact in after.items():
        members[contact].append(lead)
    for contact, found in members.items():
        founder = first.get(contact)
        if lives.get(contact) is None and founder in after and after[founder] != contact:
            first[contact] = min(found)
    return Change(
        leads={lead: contact for lead, contact in leads.items() if state.contact_of[lead] != contact},
        merged_into={
            contact: target for contact, target in into.items() if state.merged_into.get(contact, contact) != target
        },
        founded=founded,
        founders={
            contact: lead
            for contact, lead in first.items()
            if contact not in founded and state.founders.get(contact) != lead
        },
    )


def nearer(
    one: LeadId, other: LeadId, leads: AbstractSet[LeadId], weights: Mapping[tuple[LeadId, LeadId], float]
) -> tuple[frozenset[LeadId], frozenset[LeadId]]:
    """Divide ``leads`` between two of them that are not one person's.

    The strongest pairs come together first, and none that would bring the two together: so each lead ends with the one
    that the better evidence leads to. Without any evidence it stays with ``one``.
    """
    group = {lead: {lead} for lead in leads}
    for (left, right), _weight in sorted(weights.items(), key=lambda item: (-item[1], item[0])):
        mine, theirs = group[left], group[right]
        if mine is theirs or {one, other} <= mine | theirs:
            continue
        mine |= theirs
        for lead in theirs:
            group[lead] = mine
    with_other = frozenset(group[other])
    return frozenset(leads) - with_other, with_other
