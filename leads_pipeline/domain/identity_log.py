"""Decisions about who is whom, and how each is taken back.

A decision says which leads moved where and holds what stood before (its inverse): whose each lead was, and into which
contact each contact was merged. Taking it back is a decision as well, with an inverse of its own, so that it can be
taken back too. A later decision about the same leads, or about a contact that this one names, comes first: undone in
the order of their numbers, newest first, decisions always find the state that they left.

Here is the arithmetic, over plain values; ``domain.identity_change`` has what a change does to leads and contacts.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar
from uuid import UUID

from leads_pipeline.domain.ids import ContactId, LeadId

Item = TypeVar("Item")


class DecisionKind(StrEnum):
    """What a row of ``merge_log`` did."""

    JOIN = "join"  # a lead into a contact
    MERGE = "merge"  # a contact into a contact
    MOVE = "move"  # leads from a contact into another, by a full resolution
    SPLIT = "split"  # leads out of a contact, into one of their own
    LINK = "link"  # two leads are one person's: their contacts are merged
    UNLINK = "unlink"  # two leads are not: they are taken apart
    UNDO = "undo"  # an earlier decision taken back


# These bring leads together: taken back, what they brought together must stay apart.
JOINING = frozenset({DecisionKind.JOIN, DecisionKind.MERGE, DecisionKind.MOVE, DecisionKind.LINK})


class LinkKind(StrEnum):
    MUST = "must"
    CANNOT = "cannot"


@dataclass(frozen=True, slots=True)
class Link:
    """What was decided for good between leads. ``merge_id`` is the decision that made it."""

    link_id: UUID
    kind: LinkKind
    sides: tuple[frozenset[LeadId], frozenset[LeadId]]
    merge_id: UUID | None
    actor: str


@dataclass(frozen=True, slots=True)
class Inverse:
    """What stood before a decision.

    ``leads``: whose each lead that moved was; ``None``: nobody's, it was new. ``contacts``: what each contact was
    merged into; ``None``: it lived. A contact that the decision made stands there with the contact that its leads came
    from: contacts are never deleted, so this is where it goes. ``founders``: the lead that counted as the first of each
    contact. ``links_made`` and ``links_withdrawn``: by the decision.
    """

    leads: Mapping[LeadId, ContactId | None] = field(default_factory=dict)
    contacts: Mapping[ContactId, ContactId | None] = field(default_factory=dict)
    founders: Mapping[ContactId, LeadId] = field(default_factory=dict)
    links_made: tuple[UUID, ...] = ()
    links_withdrawn: tuple[UUID, ...] = ()

    def as_json(self, revisions: Mapping[LeadId, int]) -> dict[str, Any]:
        """As ``merge_log.inverse`` holds it."""
        document: dict[str, Any] = {
            "leads": [
                {"lead_id": str(lead), "revision": revisions.get(lead, 1), "contact_id": _text(contact)}
                for lead, contact in sorted(self.leads.items())
            ],
            "contacts": {str(contact): _text(into) for contact, into in sorted(self.contacts.items())},
        }
        if self.founders:
            document["founders"] = {str(contact): str(lead) for contact, lead in sorted(self.founders.items())}
        if self.links_made:
            document["links_made"] = [str(link) for link in self.links_made]
        if self.links_withdrawn:
            document["links_withdrawn"] = [str(link) for link in self.links_withdrawn]
        return document


@dataclass(frozen=True)
class Decision:
    """A row of ``merge_log``. ``inverse`` is missing in rows from before inverses were kept.

    ``moved`` says where each lead was put, in its place of then. ``compared``: the two leads that ``match_weight`` is
    of; ``cut_offs``: the review weight and the merge weight of that day.
    """

    merge_id: UUID
    number: int
    kind: DecisionKind
    contact_id: ContactId
    other_contact_id: ContactId | None
    moved: Mapping[LeadId, ContactId]
    inverse: Inverse | None
    undoes: UUID | None
    actor: str
    reason: str | None
    match_weight: float | None
    evidence: Mapping[str, Any]
    merged_at: datetime
    compared: tuple[LeadId, LeadId] | None = None
    cut_offs: tuple[float, float] | None = None

    @property
    def by_person(self) -> bool:
        """Whether a person took it, and not a run."""
        return self.actor.startswith("person:")

    @property
    def named(self) -> frozenset[ContactId]:
        """Every contact that must be as the decision left it for it to be taken back."""
        contacts = {self.contact_id, self.other_contact_id, *self.moved.values()}
        if self.inverse is not None:
            contacts |= {*self.inverse.contacts, *self.inverse.leads.values()}
        return frozenset(contact for contact in contacts if contact is not None)


def decision_of(row: Mapping[str, Any]) -> Decision:
    """A decision from a row of ``merge_log``."""
    contact, other = row["contact_id"], row["other_contact_id"]
    moved = {
        LeadId(UUID(item["lead_id"])): ContactId(UUID(item["contact_id"])) if item.get("contact_id") else contact
        for item in row["lead_ids"]
    }
    return Decision(
        merge_id=row["merge_id"],
        number=row["number"],
        kind=DecisionKind(row["kind"]),
        contact_id=contact,
        other_contact_id=other,
        moved=moved,
        inverse=_inverse_of(row["inverse"]) if row["inverse"] else None,
        undoes=row["undoes"],
        actor=row["actor"],
        reason=row["reason"],
        match_weight=row["match_weight"],
        evidence=row["evidence"],
        merged_at=row["merged_at"],
        compared=_pair(row["compared_lead_id"], row["compared_with_lead_id"]),
        cut_offs=_pair(row["review_weight"], row["merge_weight"]),
    )


def _pair(one: Item | None, other: Item | None) -> tuple[Item, Item] | None:
    return None if one is None or other is None else (one, other)


def _inverse_of(document: Mapping[str, Any]) -> Inverse:
    return Inverse(
        leads={LeadId(UUID(item["lead_id"])): _contact(item.get("contact_id")) for item in document.get("leads", ())},
        contacts={ContactId(UUID(contact)): _contact(into) for contact, into in document.get("contacts", {}).items()},
        founders={
            ContactId(UUID(contact)): LeadId(UUID(lead)) for contact, lead in document.get("founders", {}).items()
        },
        links_made=tuple(UUID(link) for link in document.get("links_made", ())),
        links_withdrawn=tuple(UUID(link) for link in document.get("links_withdrawn", ())),
    )


def _contact(text: str | None) -> ContactId | None:
    return ContactId(UUID(text)) if text else None


def _text(contact: ContactId | None) -> str | None:
    return str(contact) if contact else None


def standing(decisions: Iterable[Decision]) -> dict[UUID, UUID]:
    """Which decisions do not hold any more, and by which: those undone by one that holds itself."""
    by_number = sorted(decisions, key=lambda decision: decision.number, reverse=True)
    undone: dict[UUID, UUID] = {}
    for decision in by_number:  # what takes a decision back is younger: it is judged before
        if decision.undoes is not None and decision.merge_id not in undone:
            undone[decision.undoes] = decision.merge_id
    return undone


def superseding(decision: Decision, others: Iterable[Decision]) -> list[Decision]:
    """The decisions that must be taken back before ``decision`` can be, newest first.

    A later one that holds, and that moved one of its leads, or merged away or brought back a contact that it names; and
    whatever supersedes such a one. A decision and the one that takes it back cancel each other out.
    """
    others = list(others)
    found: dict[UUID, Decision] = {}
    waiting = [decision]
    while waiting:
        new = [item for item in _superseding(waiting.pop(), others) if item.merge_id not in found]
        found.update((item.merge_id, item) for item in new)
        waiting += new
    return sorted(found.values(), key=lambda item: item.number, reverse=True)


def _superseding(decision: Decision, others: Sequence[Decision]) -> list[Decision]:
    undone = standing(others)
    cancelled = set(undone) | set(undone.values())
    return [
        other
        for other in others
        if other.number > decision.number
        # The undo of something older than this decision still counts: it changed what this one left.
        and (other.merge_id not in cancelled or _undoes_older(other, others, undone, decision.number))
        and _interferes(other, decision)
    ]


def _undoes_older(other: Decision, others: Sequence[Decision], undone: Mapping[UUID, UUID], number: int) -> bool:
    if other.merge_id in undone or other.undoes is None:
        return False
    return any(item.merge_id == other.undoes and item.number < number for item in others)


def _interferes(other: Decision, decision: Decision) -> bool:
    if not other.moved.keys().isdisjoint(decision.moved):
        return True
    changed = frozenset(other.inverse.contacts) if other.inverse else frozenset()
    if other.inverse is None and other.other_contact_id is not None:
        changed = frozenset({other.other_contact_id})
    return not changed.isdisjoint(decision.named)


def followers(
    moving: AbstractSet[LeadId],
    staying: AbstractSet[LeadId],
    later: Iterable[LeadId],
    keys: Mapping[LeadId, Sequence[str | None]],
) -> set[LeadId]:
    """Which of the leads that came ``later`` go with those that move.

    ``keys`` are each lead's strong values, strongest first (e-mail, phone, external id; ``None`` where it has none).
    The first by which a lead agrees with one side only decides; a lead that none of them tells stays where it is.
    """
    of_moving = _values(moving, keys)
    of_staying = _values(staying, keys)
    return {
        lead
        for lead in later
        if next(
            (
                (place, value) in of_moving
                for place, value in enumerate(keys.get(lead, ()))
                if value is not None and ((place, value) in of_moving) != ((place, value) in of_staying)
            ),
            False,
        )
    }


def _values(leads: AbstractSet[LeadId], keys: Mapping[LeadId, Sequence[str | None]]) -> set[tuple[int, str]]:
    return {(place, value) for lead in leads for place, value in enumerate(keys.get(lead, ())) if value is not None}


def violated(links: Iterable[Link], contact_of: Mapping[LeadId, ContactId]) -> list[Link]:
    """The links that do not hold if leads belong to contacts like this. Leads that are not there break none."""
    broken = []
    for link in links:
        one, other = ({contact_of[lead] for lead in side if lead in contact_of} for side in link.sides)
        apart = not one or not other or one.isdisjoint(other)
        together = not one or not other or len(one | other) == 1
        if not (apart if link.kind is LinkKind.CANNOT else together):
            broken.append(link)
    return broken
