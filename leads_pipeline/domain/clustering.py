"""From pairs that look alike to groups that are one person each.

Plain connected components let one wrong edge join two families of records. Here edges are taken best first, and one
that would join two groups is put to the vote of all pairs between them that were scored; what is refused goes to a
person. The answer does not depend on the order in which edges or records are given.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeVar

Contact = TypeVar("Contact", bound=Hashable)


class Strength(IntEnum):
    """Whose word an edge is; a higher one is taken first."""

    MODEL = 0
    RULE = 1
    IDENTITY = 2  # one e-mail address, or one lead: joins whatever speaks against it


@dataclass(frozen=True, slots=True)
class Edge:
    """Two records that may be one person. ``weight`` is log2 odds."""

    left: int
    right: int
    weight: float
    strength: Strength = Strength.MODEL


@dataclass(frozen=True, slots=True)
class Limits:
    """What the model may do by itself. Beyond it a person decides."""

    merge_weight: float
    veto_weight: float
    max_records: int = 50
    max_contacts: int = 3


@dataclass(frozen=True, slots=True)
class Clustering:
    """``group_of``: each record's group, named by its smallest record. ``refused`` edges reached the merge weight."""

    group_of: dict[int, int]
    joined: tuple[Edge, ...]
    refused: tuple[Edge, ...]


@dataclass(slots=True)
class _Group:
    records: list[int]
    contacts: int
    size: int


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


def cluster(
    records: Iterable[int],
    *,
    contact_of: Mapping[int, Contact],
    contact_sizes: Mapping[Contact, int],
    pairs: Iterable[Edge],
    limits: Limits,
) -> Clustering:
    """Group ``records``.

    ``contact_of`` names the contact that a known record already belongs to: its records start as one group of
    ``contact_sizes`` records in all. ``pairs`` are all that were scored, also those far below the merge weight: a pair
    below the veto weight votes to keep its two groups apart, one from the merge weight on votes to join them.
    """
    groups = _starting_groups(sorted(records), contact_of, contact_sizes)
    edges = sorted(pairs, key=lambda e: (-e.strength, -e.weight, min(e.left, e.right), max(e.left, e.right)))
    ballots = _ballots(edges, limits)
    joined: list[Edge] = []
    refused: list[Edge] = []
    for edge in edges:
        if edge.strength is Strength.MODEL and edge.weight < limits.merge_weight:
            break
        one, other = groups.root_of[edge.left], groups.root_of[edge.right]
        if one == other:
            continue
        if edge.strength is not Strength.IDENTITY and _speaks_against(groups, one, other, edge, ballots, limits):
            refused.append(edge)
            continue
        groups.join(one, other)
        joined.append(edge)
    names = {root: min(group.records) for root, group in groups.groups.items()}
    # A refused pair may have come together by a better way.
    still_apart = tuple(edge for edge in refused if groups.root_of[edge.left] != groups.root_of[edge.right])
    return Clustering({record: names[root] for record, root in groups.root_of.items()}, tuple(joined), still_apart)


def _starting_groups(
    records: list[int], contact_of: Mapping[int, Contact], contact_sizes: Mapping[Contact, int]
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
            size = 1 if contact is None else contact_sizes.get(contact, 1)
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


def _speaks_against(
    groups: _Groups, one: int, other: int, edge: Edge, ballots: Mapping[int, list[tuple[int, int]]], limits: Limits
) -> bool:
    small, big = sorted((groups.groups[one], groups.groups[other]), key=lambda group: len(group.records))
    if edge.strength is Strength.MODEL:
        contacts = small.contacts + big.contacts
        if small.contacts and big.contacts and contacts > limits.max_contacts:
            return True
        if small.size + big.size > limits.max_records:
            return True
    members = set(big.records)
    votes = [vote for record in small.records for other_record, vote in ballots[record] if other_record in members]
    # A tie is two records that are joined only by a third and are unlike each other: the usual false chain.
    return sum(votes) <= 0
