"""Contacts made what a full resolution found, some at a time: decisions in the log, as any others.

What has changed since the resolution read it is left alone and counted: the next one will see to it. So a run that was
killed is simply started again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import sqlalchemy as sa

from leads_pipeline.domain.identity_change import Change, IdentityState
from leads_pipeline.domain.identity_log import violated
from leads_pipeline.domain.ids import ContactId, LeadId, uuid7
from leads_pipeline.domain.regrouping import Regrouping, Step, decisions, together
from leads_pipeline.domain.resolution import Reason, Review
from leads_pipeline.domain.stage import Chunk, Lane
from leads_pipeline.storage import match_reviews
from leads_pipeline.storage.contact_consent import carry_withdrawals
from leads_pipeline.storage.contact_links import links_of
from leads_pipeline.storage.contact_log import write_decision
from leads_pipeline.storage.contact_state import FoundContacts, contacts_of, read_contacts, write_change
from leads_pipeline.storage.identity_writing import write_reviews

_K = TypeVar("_K")
_V = TypeVar("_V")

# Why the leads of a part moved: by its group and the contact that it leaves.
Reasons = Callable[[int, ContactId], Reason]


@dataclass(frozen=True, slots=True)
class Regrouped:
    """What was written.

    ``stale``: regroupings whose contacts or leads changed since; ``forbidden``: a link is against them.
    """

    applied: int = 0
    stale: int = 0
    forbidden: int = 0
    decisions: int = 0
    moved_leads: int = 0
    carried: int = 0

    def plus(self, other: "Regrouped") -> "Regrouped":
        return Regrouped(
            self.applied + other.applied,
            self.stale + other.stale,
            self.forbidden + other.forbidden,
            self.decisions + other.decisions,
            self.moved_leads + other.moved_leads,
            self.carried + other.carried,
        )


@dataclass(frozen=True, slots=True)
class _Taken:
    """A regrouping that is to be written: its contacts as they stand, its decisions, and what they come to."""

    state: IdentityState
    steps: Sequence[Step]
    change: Change


def regroup(
    connection: sa.Connection, chunk: Chunk, regroupings: Sequence[Regrouping], *, reasons: Reasons, reason: str
) -> Regrouped:
    """Write what still applies of ``regroupings``. The caller holds ``identity.lock_identity``; all commit at once."""
    contacts = {contact for item in regroupings for contact in item.contacts}
    found = read_contacts(connection, chunk.tenant, contacts)
    links = links_of(connection, chunk.tenant, found.state.contact_of) if regroupings else []
    state_of = _states(found.state, regroupings)
    taken: list[_Taken] = []
    stale = forbidden = 0
    for item, state in zip(regroupings, state_of, strict=True):
        if not item.holds(state, found.revisions):
            stale += 1
            continue
        steps = decisions(item, state, new_id=lambda: uuid7(chunk.now))
        change = together(state, [step.change for step in steps])
        after = change.after(state)
        own = [link for link in links if any(lead in after for side in link.sides for lead in side)]
        before = {link.link_id for link in violated(own, state.contact_of)}
        if any(link.link_id not in before for link in violated(own, after)):
            forbidden += 1
            continue
        taken.append(_Taken(state, steps, change))
    carried = _write(connection, chunk, found, taken, reasons, reason)
    return Regrouped(
        len(taken),
        stale,
        forbidden,
        sum(len(item.steps) for item in taken),
        sum(len(item.change.leads) for item in taken),
        carried,
    )


def _states(whole: IdentityState, regroupings: Sequence[Regrouping]) -> list[IdentityState]:
    """For each regrouping its own contacts, whatever was merged into them, and their leads."""
    place_of = {contact: place for place, item in enumerate(regroupings) for contact in item.contacts}
    contact_of: list[dict[LeadId, ContactId]] = [{} for _ in regroupings]
    merged_into: list[dict[ContactId, ContactId | None]] = [{} for _ in regroupings]
    for contact, into in whole.merged_into.items():
        place = place_of.get(contact, place_of.get(into) if into is not None else None)
        if place is not None:
            merged_into[place][contact] = into
    for lead, contact in whole.contact_of.items():
        if contact in place_of:
            contact_of[place_of[contact]][lead] = contact
    return [
        IdentityState(leads, into, {contact: whole.founders[contact] for contact in into})
        for leads, into in zip(contact_of, merged_into, strict=True)
    ]


def _write(
    connection: sa.Connection,
    chunk: Chunk,
    found: FoundContacts,
    taken: Sequence[_Taken],
    reasons: Reasons,
    reason: str,
) -> int:
    if not taken:
        return 0
    change = Change(
        leads=_united([item.change.leads for item in taken]),
        merged_into=_united([item.change.merged_into for item in taken]),
        founded=_united([item.change.founded for item in taken]),
        founders=_united([item.change.founders for item in taken]),
    )
    write_change(connection, chunk, found.state, change, lane=Lane.BATCH)
    carried = sum(_carry(connection, chunk, item) for item in taken)
    for item in taken:
        state = item.state
        for step in item.steps:
            why = reasons(step.part.group, step.part.contact)
            write_decision(
                connection,
                chunk,
                merge_id=uuid7(chunk.now),
                kind=step.kind,
                contact=step.contact,
                other=step.other,
                moved=step.change.leads,
                revisions=found.revisions,
                inverse=step.change.inverse(state),
                why=why,
                reason=reason,
            )
            state = step.change.applied(state)
    leads = [lead for item in taken for lead in item.state.contact_of]
    match_reviews.follow(connection, chunk.tenant, leads, actor=chunk.runner_id, now=chunk.now)
    return carried


def _carry(connection: sa.Connection, chunk: Chunk, item: _Taken) -> int:
    """Let withdrawals of consent hold for all parts of each contact that is taken apart."""
    after = item.change.after(item.state)
    parts: dict[ContactId, dict[ContactId, set[LeadId]]] = {}
    for lead, contact in item.state.contact_of.items():
        parts.setdefault(contact, {}).setdefault(after[lead], set()).add(lead)
    return sum(
        carry_withdrawals(connection, chunk, found, since=None)
        for _contact, found in sorted(parts.items())
        if len(found) > 1
    )


def ask(connection: sa.Connection, chunk: Chunk, pairs: Sequence[tuple[LeadId, LeadId, bool, Reason]]) -> int:
    """Put pairs (newer, older, refused, why) of leads that are not one contact's before a person; says how many.

    Of several about two contacts the first. What is asked about them already, or was decided, is not asked again.
    """
    owner_of = contacts_of(connection, chunk.tenant, [lead for newer, older, *_ in pairs for lead in (newer, older)])
    reviews: dict[tuple[ContactId, ContactId], Review] = {}
    for newer, older, refused, why in pairs:
        one, other = owner_of.get(newer), owner_of.get(older)
        if one is not None and other is not None and one != other:
            contacts = min(one, other), max(one, other)
            reviews.setdefault(contacts, Review(newer, older, contacts, refused, why))
    write_reviews(connection, chunk, list(reviews.values()))
    return len(reviews)


def _united(parts: Sequence[Mapping[_K, _V]]) -> dict[_K, _V]:
    return {key: value for part in parts for key, value in part.items()}
