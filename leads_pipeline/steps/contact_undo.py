"""Take back a decision about who is whom: leads, contacts, links and reviews are as they were before it.

What it brought together is kept apart from then on, by a cannot-link between the leads of the two sides that every
later run honours; what a run took apart is kept together, by a must-link. A run that moved a lead did both: the lead
is kept apart from where it was put, and together with those that it comes back to, whatever it is corrected to later.
A lead that came after the decision stays with the survivor, unless it agrees by its e-mail address, its phone or its
sender's id with the other side alone (``identity_log.followers``). An undo is a decision as well: it has an id of its
own, and can be taken back.
"""

from collections.abc import Iterable, Mapping
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.identity_change import Change, IdentityState, restored
from leads_pipeline.domain.identity_log import (
    JOINING,
    Decision,
    DecisionKind,
    LinkKind,
    followers,
    standing,
    superseding,
)
from leads_pipeline.domain.ids import ContactId, LeadId, uuid7
from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.errors import IdentityRefused, NotFound
from leads_pipeline.storage.contact_deciding import Decided, Links, NewLink, Ruling, decide, deciding
from leads_pipeline.storage.contact_log import decisions_after, find_decision
from leads_pipeline.storage.contact_state import contacts_of, match_fields_of, read_contacts
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)

# A run that decides so takes leads out of the contact that they were in.
_TAKING_APART = frozenset({DecisionKind.SPLIT, DecisionKind.MOVE})


def undo(engine: sa.Engine, merge_id: UUID, ruling: Ruling) -> Decided:
    """Take the decision back.

    Golden records and what the CRMs are to have follow: all contacts concerned wait to be made anew.

    Raises:
        NotFound: there is no such decision.
        IdentityRefused: it was taken back already, later decisions come first, a link forbids what would come back, or
            its inverse is not known.
    """
    with engine.connect() as connection:
        tenant = _find(connection, merge_id)[0]
    with deciding(engine, tenant, dry_run=ruling.dry_run) as connection:
        decided = _undo(connection, tenant, _find(connection, merge_id)[1], ruling)
    if not ruling.dry_run:
        log.info("decision_undone", merge_id=str(merge_id), undo_id=str(decided.merge_id), actor=ruling.actor)
    return decided


def _find(connection: sa.Connection, merge_id: UUID) -> tuple[str, Decision]:
    found = find_decision(connection, merge_id)
    if found is None:
        raise NotFound(f"there is no decision {merge_id}; `leads contact history CONTACT` shows the ids")
    return found


def _undo(connection: sa.Connection, tenant: str, decision: Decision, ruling: Ruling) -> Decided:
    known = decisions_after(connection, tenant, decision)
    _refuse_undone(decision, known)
    if decision.inverse is None:
        raise IdentityRefused(
            f"{decision.merge_id} was decided before inverses were kept, so what stood before it is not known; "
            "take its leads out with `leads contact split`"
        )
    _refuse_superseded(decision, known)
    found = read_contacts(connection, tenant, decision.named)
    _refuse_strayed(decision, contacts_of(connection, tenant, decision.moved))
    moved = frozenset(decision.moved.keys() & found.state.contact_of.keys())
    going = frozenset[LeadId]()
    if decision.kind in JOINING:
        going = _followers(connection, tenant, decision, known, found.state, moved)
    change = restored(found.state, decision.inverse, moved, going, new_id=lambda: uuid7(ruling.now))
    inverse = decision.inverse
    if not change and not inverse.links_made and not inverse.links_withdrawn:
        raise IdentityRefused(f"{decision.merge_id} moved no lead that is still here: there is nothing to take back")
    gone = {found.state.contact_of[lead] for lead in change.leads}
    places = [contact for contact in change.leads.values() if contact not in gone]
    other = places[0] if places else decision.other_contact_id
    return decide(
        connection,
        ruling,
        tenant,
        found,
        change,
        kind=DecisionKind.UNDO,
        contact=decision.contact_id,
        other=other if other != decision.contact_id else next(iter(gone), None),
        links=Links(
            make=_links_for_good(decision, change, found.state),
            withdraw=inverse.links_made,
            restore=inverse.links_withdrawn,
        ),
        undoes=decision.merge_id,
        apart_since=decision.merged_at if decision.kind in JOINING else None,
    )


def _links_for_good(decision: Decision, change: Change, state: IdentityState) -> list[NewLink]:
    """What later runs have to keep to: what was brought together stays apart, what a run took apart stays together."""
    if not change.leads:
        return []
    after, moved = change.after(state), frozenset(change.leads)
    links: list[NewLink] = []
    if decision.kind in JOINING:
        left = {state.contact_of[lead] for lead in moved}
        links.append((LinkKind.CANNOT, moved, frozenset(lead for lead, contact in after.items() if contact in left)))
    if decision.kind in _TAKING_APART and not decision.by_person:
        # One for each contact: those of several that come back are not one person's.
        for joined in sorted({after[lead] for lead in moved}):
            members = frozenset(lead for lead, contact in after.items() if contact == joined)
            links.append((LinkKind.MUST, members & moved, members - moved))
    return links


def _refuse_undone(decision: Decision, known: Iterable[Decision]) -> None:
    known = list(known)
    taken_back = next((item for item in known if item.undoes == decision.merge_id), None)
    if taken_back is None:
        return
    again = standing(known).get(taken_back.merge_id)
    if again is None:
        raise IdentityRefused(
            f"{decision.merge_id} was taken back already, by {taken_back.actor} on "
            f"{taken_back.merged_at:%Y-%m-%d %H:%M} UTC ({taken_back.merge_id})"
        )
    raise IdentityRefused(
        f"{decision.merge_id} holds again because {again} took its undo back: undo {again} instead", first=(again,)
    )


def _refuse_superseded(decision: Decision, known: Iterable[Decision]) -> None:
    later = superseding(decision, known)
    if later:
        raise IdentityRefused(
            f"{decision.merge_id} is superseded by later decisions about the same leads or contacts; take back first, "
            f"in this order: {', '.join(f'{item.merge_id} ({item.kind} by {item.actor})' for item in later)}",
            first=tuple(item.merge_id for item in later),
        )


def _refuse_strayed(decision: Decision, contact_of: Mapping[LeadId, ContactId]) -> None:
    """What the log does not explain is not guessed at."""
    astray = [lead for lead, put in decision.moved.items() if contact_of.get(lead, put) != put]
    if astray:
        raise IdentityRefused(
            f"{decision.merge_id} cannot be taken back: lead {min(astray)} is not where it was put any more, and no "
            "decision says why; use `leads contact split`"
        )


def _followers(
    connection: sa.Connection,
    tenant: str,
    decision: Decision,
    known: Iterable[Decision],
    state: IdentityState,
    moved: frozenset[LeadId],
) -> frozenset[LeadId]:
    """The leads that came after the decision and belong to what it moved."""
    puts = {decision.moved[lead] for lead in moved}
    here = frozenset(lead for lead, contact in state.contact_of.items() if contact in puts) - moved
    came = {
        lead
        for item in known
        if item.kind is DecisionKind.JOIN and item.number > decision.number
        for lead in item.moved
    }
    later = here & came
    if not later:
        return frozenset()
    fields = match_fields_of(connection, tenant, [*here, *moved])
    keys = {lead: _strong_values(item) for lead, item in fields.items()}
    return frozenset(followers(moved, here - later, later, keys))


def _strong_values(fields: MatchFields) -> tuple[str | None, ...]:
    return fields.email_key, fields.phone_key, fields.external_id_key
