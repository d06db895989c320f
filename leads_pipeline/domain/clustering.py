"""From pairs that look alike to groups that are one person each.

Plain connected components let one wrong edge join two families of records. Here edges are taken best first, and one
that would join two groups is put to the vote of all pairs between them that were scored; what is refused goes to a
person. What was decided for good comes as links, and no evidence overrules those. The answer does not depend on the
order in which edges, links or records are given.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import combinations
from typing import TypeVar

Contact = TypeVar("Contact", bound=Hashable)


class Strength(IntEnum):
    """Whose word an edge is; a higher one is taken first."""

    MODEL = 0
    RULE = 1
    IDENTITY = 2  # one e-mail address: only those who share it have a vote
    LINK = 3  # a must-link: somebody decided it


@dataclass(frozen=True, slots=True)
class Edge:
    """Two records that may be one person. ``weight`` is log2 odds."""

    left: int
    right: int
    weight: float
    strength: Strength = Strength.MODEL


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be done without a person.

    A group of more than ``max_records``, or of more than ``max_contacts`` that existed, is made by a must-link only.
    """

    merge_weight: float
    veto_weight: float
    max_records: int = 50
    max_contacts: int = 3


Link = tuple[AbstractSet[int], AbstractSet[int]]
"""The records on its two sides."""


@dataclass(frozen=True, slots=True)
class Links:
    """What was decided for good, by a person or by an undo.

    ``cannot``: no group holds a record of one side together with one of the other. ``must``: all records of both sides
    are one group's, whatever the votes and sizes are; one that a cannot-link forbids is refused as a whole. A side
    may name any record of a contact for a lead of it that is not among the records.
    """

    cannot: Sequence[Link] = ()
    must: Sequence[Link] = ()


NO_LINKS = Links()


@dataclass(frozen=True, slots=True)
class Clustering:
    """``group_of``: each record's group, named by its smallest record. ``joined`` are the edges that made the groups.

    ``refused`` edges reached the merge weight: votes or sizes spoke against them, or they led to either side of a
    cannot-link alike. ``kept_apart`` are the pairs of groups, the smaller name first, that a
    cannot-link separates: what lies between them is no question any more. ``unmet`` are the must-links that a
    cannot-link forbids.
    """

    group_of: dict[int, int]
    joined: tuple[Edge, ...]
    refused: tuple[Edge, ...]
    kept_apart: frozenset[tuple[int, int]] = frozenset()
    unmet: tuple[Link, ...] = ()


_BOTH_SIDES = 3


@dataclass(slots=True)
class _Group:
    """``sides``: cannot-link → 1 or 2 for the side that it holds a record of; 3 is both, as it came to us."""

    records: list[int]
    contacts: int
    size: int
    sides: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Groups:
    """Union-find whose groups know their members; the smaller group is always moved."""

    root_of: dict[int, int] = field(default_factory=dict)
    groups: dict[int, _Group] = field(default_factory=dict)

    def join(self, one: int, other: int) -> None:
        big, small = sorted((one, other), key=lambda root: (-len(self.groups[root].records), root))
        moved, kept = self.groups.pop(small), self.groups[big]
        for record in moved.records:
            self.root_of[record] = big
        kept.records.extend(moved.records)
        kept.contacts += moved.contacts
        kept.size += moved.size
        for link, side in moved.sides.items():
            kept.sides[link] = kept.sides.get(link, 0) | side

    def forbidden(self, one: int, other: int) -> bool:
        """Whether a cannot-link has one side in each."""
        few, many = sorted((self.groups[one].sides, self.groups[other].sides), key=len)
        return any(many.get(link, 0) | side == _BOTH_SIDES for link, side in few.items() if link in many)


def cluster(
    records: Iterable[int],
    *,
    contact_of: Mapping[int, Contact],
    contact_sizes: Mapping[Contact, int],
    pairs: Iterable[Edge],
    limits: Limits,
    links: Links = NO_LINKS,
    repeats: AbstractSet[int] = frozenset(),
) -> Clustering:
    """Group ``records``.

    ``contact_of`` names the contact that a known record already belongs to: its records start as one group of
    ``contact_sizes`` records in all. ``pairs`` are all that were scored, also those far below the merge weight: a pair
    below the veto weight votes to keep its two groups apart, one from the merge weight on votes to join them.
    ``links`` come before all of them. ``repeats`` look like another record: they count for nobody's size.
    """
    groups = _starting_groups(sorted(records), contact_of, contact_sizes, repeats)
    _mark_sides(groups, links.cannot)
    edges = sorted(pairs, key=lambda e: (-e.strength, -e.weight, min(e.left, e.right), max(e.left, e.right)))
    ballots, identity_of = _ballots(edges, limits), _identities(edges)
    joined, unmet = _join_linked(groups, links.must)
    doubts = _Doubts(groups, edges, limits) if links.cannot else None
    refused: list[Edge] = []
    for edge in edges:
        if edge.strength is Strength.MODEL and edge.weight < limits.merge_weight:
            break
        one, other = groups.root_of[edge.left], groups.root_of[edge.right]
        if one == other or groups.forbidden(one, other):
            continue
        # A family that shares a mailbox is not to be joined by one who left no name there; what others think of those
        # who share it is no matter.
        sharing = identity_of if edge.strength is Strength.IDENTITY else None
        doubtful = doubts is not None and doubts.about(edge)
        # A tie is mostly two records that are alike to a third and unlike each other. What joins them then has to be as
        # far above the merge weight as what speaks against it is below 0; nine in ten of such are one person.
        least = 0 if sharing is None and edge.weight >= limits.merge_weight - limits.veto_weight else 1
        outvoted = _balance(groups, one, other, ballots, sharing) < least
        if doubtful or outvoted or _too_large(groups, one, other, limits):
            refused.append(edge)
            continue
        groups.join(one, other)
        joined.append(edge)
    names = {root: min(group.records) for root, group in groups.groups.items()}
    group_of = {record: names[root] for record, root in groups.root_of.items()}
    kept_apart = frozenset(
        (min(one, other), max(one, other))
        for left, right in links.cannot
        for one in {group_of[record] for record in left}
        for other in {group_of[record] for record in right}
        if one != other
    )
    # A refused pair may have come together by a better way, or a cannot-link answers for it by now.
    still_apart = tuple(
        edge
        for edge in refused
        if (one := group_of[edge.left]) != (other := group_of[edge.right])
        and (min(one, other), max(one, other)) not in kept_apart
    )
    return Clustering(group_of, tuple(joined), still_apart, kept_apart, unmet)


class _Doubts:
    """Which edges lead to one side of a cannot-link where others lead to its other side: somebody is to be asked.

    Who has joined a side is of it, as if it had come with it. An edge is beyond doubt if it is stronger than those to
    the other side, or heavier by the merge weight: then the odds between the two sides are what a merge needs.
    """

    def __init__(self, groups: _Groups, edges: Iterable[Edge], limits: Limits) -> None:
        self._groups = groups
        self._limits = limits
        self._edges: dict[int, list[tuple[Edge, int]]] = defaultdict(list)
        for edge in edges:
            if edge.strength is not Strength.MODEL or edge.weight >= limits.merge_weight:
                self._edges[edge.left].append((edge, edge.right))
                self._edges[edge.right].append((edge, edge.left))

    def about(self, edge: Edge) -> bool:
        """Whether ``edge`` joins a group to one side that has as good an edge to the other."""
        return self._torn(edge, edge.left, edge.right) or self._torn(edge, edge.right, edge.left)

    def _torn(self, edge: Edge, record: int, other: int) -> bool:
        group = self._group_of(record)
        open_sides = {
            link: _BOTH_SIDES - side
            for link, side in self._group_of(other).sides.items()
            if side != _BOTH_SIDES and link not in group.sides
        }
        return bool(open_sides) and any(
            rival.strength >= edge.strength
            and rival.weight > edge.weight - self._limits.merge_weight
            and any(self._group_of(end).sides.get(link) == side for link, side in open_sides.items())
            for member in group.records
            for rival, end in self._edges.get(member, ())
        )

    def _group_of(self, record: int) -> _Group:
        return self._groups.groups[self._groups.root_of[record]]


def _mark_sides(groups: _Groups, cannot: Iterable[Link]) -> None:
    for link, sides in enumerate(cannot):
        for side, records in enumerate(sides, start=1):
            for record in records:
                held = groups.groups[groups.root_of[record]].sides
                held[link] = held.get(link, 0) | side


def _join_linked(groups: _Groups, must: Iterable[Link]) -> tuple[list[Edge], tuple[Link, ...]]:
    """The edges by which must-links were met, and those that a cannot-link forbids.

    Where two contradict each other by way of a cannot-link, the one with the smaller records is met.
    """
    joined: list[Edge] = []
    unmet: list[Link] = []
    for link in sorted(must, key=lambda sides: [sorted(sides[0] | sides[1]), sorted(sides[0]), sorted(sides[1])]):
        records = sorted(link[0] | link[1])
        roots = {groups.root_of[record] for record in records}
        if any(groups.forbidden(one, other) for one, other in combinations(roots, 2)):
            unmet.append(link)
            continue
        for record in records[1:]:
            one, other = groups.root_of[records[0]], groups.root_of[record]
            if one != other:
                groups.join(one, other)
                joined.append(Edge(records[0], record, 0.0, Strength.LINK))
    return joined, tuple(unmet)


def _starting_groups(
    records: list[int],
    contact_of: Mapping[int, Contact],
    contact_sizes: Mapping[Contact, int],
    repeats: AbstractSet[int],
) -> _Groups:
    groups = _Groups()
    first_of: dict[Contact, int] = {}
    for record in records:
        contact = contact_of.get(record)
        root = record if contact is None else first_of.setdefault(contact, record)
        groups.root_of[record] = root
        if root in groups.groups:
            groups.groups[root].records.append(record)
        else:
            size = int(record not in repeats) if contact is None else contact_sizes.get(contact, 1)
            groups.groups[root] = _Group([record], contacts=0 if contact is None else 1, size=size)
    return groups


def _ballots(edges: Iterable[Edge], limits: Limits) -> dict[int, list[tuple[int, int]]]:
    """For each record the others that it was compared with, and how the pair votes: 1 to join, -1 to stay apart."""
    ballots: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for edge in edges:
        if edge.strength is not Strength.MODEL or edge.weight >= limits.merge_weight:
            vote = 1
        elif edge.weight < limits.veto_weight:
            vote = -1
        else:
            continue
        ballots[edge.left].append((edge.right, vote))
        ballots[edge.right].append((edge.left, vote))
    return ballots


def _too_large(groups: _Groups, one: int, other: int, limits: Limits) -> bool:
    small, big = groups.groups[one], groups.groups[other]
    if small.contacts and big.contacts and small.contacts + big.contacts > limits.max_contacts:
        return True
    return small.size + big.size > limits.max_records


def _identities(edges: Iterable[Edge]) -> dict[int, int]:
    """For each record that shares an identity with another, the smallest of those that do, directly or over others."""
    name_of: dict[int, int] = {}
    members: dict[int, list[int]] = {}
    for edge in edges:
        if edge.strength is Strength.IDENTITY:
            one, other = sorted(name_of.setdefault(record, record) for record in (edge.left, edge.right))
            if one != other:
                moved = members.pop(other, [other])
                members.setdefault(one, [one]).extend(moved)
                name_of.update(dict.fromkeys(moved, one))
    return name_of


def _balance(
    groups: _Groups,
    one: int,
    other: int,
    ballots: Mapping[int, list[tuple[int, int]]],
    sharing: Mapping[int, int] | None,
) -> int:
    """By how many more pairs between the two speak for it than against; of those ``sharing`` an identity, if given."""
    small, big = sorted((groups.groups[one].records, groups.groups[other].records), key=len)
    members = set(big)
    return sum(
        vote
        for record in small
        for other_record, vote in ballots[record]
        if other_record in members and (sharing is None or sharing.get(record, -1) == sharing.get(other_record, -2))
    )
