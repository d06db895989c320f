"""From groups of records to contacts: who founds one, who joins one, which are merged, what a person must look at.

Contact ids are ours and stay: the oldest contact of a group survives. Keep out: what makes two records alike, and SQL.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from leads_pipeline.domain.clustering import Clustering, Edge, Strength
from leads_pipeline.domain.ids import ContactId
from leads_pipeline.domain.match_keys import MatchFields


@dataclass(frozen=True, slots=True)
class Record:
    """One lead as identity resolution sees it.

    ``contact_id`` is the contact that it belongs to already. ``arriving`` tells the leads of this chunk from the
    candidates that were found for them.
    """

    lead_id: UUID
    revision: int
    fields: MatchFields
    contact_id: ContactId | None
    arriving: bool


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a lead joined, or a contact was merged. ``evidence`` holds weights, never values.

    ``cut_offs``: the review weight and the merge weight of that day. ``leads``: the two that were compared.
    """

    actor: str
    match_weight: float | None
    evidence: Mapping[str, float]
    cut_offs: tuple[float, float] | None = None
    leads: tuple[UUID, UUID] | None = None


@dataclass(frozen=True, slots=True)
class Assignment:
    """An arriving record (by its place) and its contact.

    ``reason`` is missing where the lead founded it, or brought it along.
    """

    place: int
    contact_id: ContactId
    reason: Reason | None


@dataclass(frozen=True, slots=True)
class Founding:
    contact_id: ContactId
    lead_id: UUID


@dataclass(frozen=True, slots=True)
class Merge:
    """``other`` is merged into ``survivor``."""

    survivor: ContactId
    other: ContactId
    reason: Reason


@dataclass(frozen=True, slots=True)
class Review:
    """A pair that a person should decide on; ``lead_id`` is the newer of the two, ``contacts`` are theirs.

    ``refused``: it reached the merge weight, and votes or sizes spoke against it.
    """

    lead_id: UUID
    other_lead_id: UUID
    contacts: tuple[ContactId, ContactId]
    refused: bool
    reason: Reason


@dataclass(frozen=True)
class Resolution:
    assignments: tuple[Assignment, ...]
    foundings: tuple[Founding, ...]
    merges: tuple[Merge, ...]
    reviews: tuple[Review, ...]


def repeats(records: Sequence[Record]) -> set[int]:
    """The places of arriving records that look like a known one or one before them: each look is kept once."""
    seen = {record.fields for record in records if not record.arriving}
    found: set[int] = set()
    for place, record in enumerate(records):
        if record.arriving:
            if record.fields in seen:
                found.add(place)
            seen.add(record.fields)
    return found


def resolve(
    records: Sequence[Record],
    clustering: Clustering,
    *,
    reasons: Callable[[Edge], Reason],
    grey: Iterable[Edge],
    new_id: Callable[[], UUID],
) -> Resolution:
    """Turn ``clustering`` of ``records`` (by their places) into contacts.

    ``grey`` are the pairs between the two cut-offs. Those that ended up in one contact anyway need no person, nor do
    those that a cannot-link answers.
    """
    edges_of: dict[int, list[Edge]] = defaultdict(list)
    for edge in clustering.joined:
        edges_of[clustering.group_of[edge.left]].append(edge)
    members: dict[int, list[int]] = defaultdict(list)
    for place, group in sorted(clustering.group_of.items()):
        members[group].append(place)
    # Ids of one instant are in no order: of those founded here the oldest is the one whose first lead is.
    strangers = sum(all(records[place].contact_id is None for place in places) for places in members.values())
    new_ids = iter(sorted(new_id() for _group in range(strangers)))
    contact_of_place: dict[int, ContactId] = {}
    assignments: list[Assignment] = []
    foundings: list[Founding] = []
    merges: list[Merge] = []
    for group, places in members.items():
        arriving = [place for place in places if records[place].arriving]
        known = {contact for place in places if (contact := records[place].contact_id) is not None}
        start: ContactId | int
        if known:
            start = survivor = min(known)
        else:
            survivor = ContactId(next(new_ids))
            start = min(arriving, key=lambda place: records[place].lead_id)
            foundings.append(Founding(survivor, records[start].lead_id))
        contact_of_place.update(dict.fromkeys(places, survivor))
        came_by = _came_by(records, edges_of[group], start)
        for place in arriving:
            reason = _reason(records, came_by[place], reasons) if place in came_by else None
            assignments.append(Assignment(place, survivor, reason))
        merges += [
            Merge(survivor, other, _reason(records, came_by[other], reasons)) for other in sorted(known - {survivor})
        ]
    reviews = _reviews(records, clustering, grey, contact_of_place, reasons)
    return Resolution(tuple(assignments), tuple(foundings), tuple(merges), reviews)


def _came_by(records: Sequence[Record], joined: Iterable[Edge], start: ContactId | int) -> dict[ContactId | int, Edge]:
    """By which edge each came to a group that began with ``start``: a contact, or the place of a record of nobody's.

    The edges that made the group are a tree of such: each joined two that nothing had joined before. So there is one
    way from anybody to the start, and its first edge is the one without which they would not be here; a stronger one
    may have brought others to them.
    """
    neighbours: dict[ContactId | int, list[tuple[ContactId | int, Edge]]] = defaultdict(list)
    for edge in joined:
        one, other = (records[place].contact_id or place for place in (edge.left, edge.right))
        neighbours[one].append((other, edge))
        neighbours[other].append((one, edge))
    came_by: dict[ContactId | int, Edge] = {}
    reached = [start]
    while reached:
        here = reached.pop()
        for beyond, edge in neighbours[here]:
            if beyond != start and beyond not in came_by:
                came_by[beyond] = edge
                reached.append(beyond)
    return came_by


def _reason(records: Sequence[Record], edge: Edge, reasons: Callable[[Edge], Reason]) -> Reason:
    if edge.strength is Strength.LINK:  # somebody decided it: which two of its leads stand for it says nothing
        return reasons(edge)
    return replace(reasons(edge), leads=(records[edge.left].lead_id, records[edge.right].lead_id))


def _reviews(
    records: Sequence[Record],
    clustering: Clustering,
    grey: Iterable[Edge],
    contact_of_place: Mapping[int, ContactId],
    reasons: Callable[[Edge], Reason],
) -> tuple[Review, ...]:
    """The best pair of each two contacts that stayed apart: a person decides once, not for every lead."""
    refused = set(clustering.refused)
    best: dict[tuple[ContactId, ContactId], Edge] = {}
    for edge in sorted((*refused, *grey), key=lambda e: (-e.weight, -e.strength, e.left, e.right)):
        groups = sorted((clustering.group_of[edge.left], clustering.group_of[edge.right]))
        one, other = sorted((contact_of_place[edge.left], contact_of_place[edge.right]))
        if one != other and (groups[0], groups[1]) not in clustering.kept_apart:
            best.setdefault((one, other), edge)
    reviews = []
    for contacts, edge in best.items():
        older, newer = sorted((records[edge.left].lead_id, records[edge.right].lead_id))
        reviews.append(Review(newer, older, contacts, edge in refused, reasons(edge)))
    return tuple(reviews)
