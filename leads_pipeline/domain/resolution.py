"""From groups of records to contacts: who founds one, who joins one, which are merged, what a person must look at.

Contact ids are ours and stay: the oldest contact of a group survives. Keep out: what makes two records alike, and SQL.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
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
    """Why a lead joined, or a contact was merged. ``evidence`` holds weights, never values."""

    actor: str
    match_weight: float | None
    evidence: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Assignment:
    """An arriving record (by its place) and its contact. ``reason`` is missing where the lead founded it."""

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
    reason_of = _strongest_edges(clustering.joined)
    members: dict[int, list[int]] = defaultdict(list)
    for place, group in sorted(clustering.group_of.items()):
        members[group].append(place)
    contact_of_place: dict[int, ContactId] = {}
    assignments: list[Assignment] = []
    foundings: list[Founding] = []
    merges: list[Merge] = []
    for places in members.values():
        arriving = [place for place in places if records[place].arriving]
        known = {contact for place in places if (contact := records[place].contact_id) is not None}
        founder: int | None = None
        if known:
            survivor = min(known)
        else:
            survivor = ContactId(new_id())
            founder = min(arriving, key=lambda place: records[place].lead_id)
            foundings.append(Founding(survivor, records[founder].lead_id))
        contact_of_place.update(dict.fromkeys(places, survivor))
        for place in arriving:
            alone = place == founder or place not in reason_of
            reason = None if alone else reasons(reason_of[place])
            assignments.append(Assignment(place, survivor, reason))
        for other in sorted(known - {survivor}):
            touching = [
                reason_of[place] for place in places if records[place].contact_id == other and place in reason_of
            ]
            # It came in by an edge of one of its records; the strongest of them says why.
            merges.append(Merge(survivor, other, reasons(max(touching, key=_rank))))
    reviews = _reviews(records, clustering, grey, contact_of_place, reasons)
    return Resolution(tuple(assignments), tuple(foundings), tuple(merges), reviews)


def _strongest_edges(edges: Iterable[Edge]) -> dict[int, Edge]:
    """For each record the strongest edge by which it was joined to another."""
    strongest: dict[int, Edge] = {}
    for edge in edges:
        for place in (edge.left, edge.right):
            if place not in strongest or _rank(edge) > _rank(strongest[place]):
                strongest[place] = edge
    return strongest


def _rank(edge: Edge) -> tuple[Strength, float]:
    return edge.strength, edge.weight


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
