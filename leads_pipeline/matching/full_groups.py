"""From all edges to groups: as ``domain.clustering.cluster`` decides, at the cost of connected components.

Where nothing speaks against an edge, best edge first gives what connected components give. So components are made from
arrays, and only those that a vote, their size or a link could split are put to ``cluster``, each by itself: what is
outside of a component has no say in it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from leads_pipeline.domain.clustering import NO_LINKS, Edge, Limits, Link, Links, Strength, cluster
from leads_pipeline.matching.full_candidates import Places
from leads_pipeline.matching.full_scoring import NO_RULE, EdgeArrays

# One pair cannot be outvoted: it is its own vote.
_SMALLEST_CONTESTED = 3


@dataclass(frozen=True, slots=True)
class Grouping:
    """``group_of``: each record's group, named by its smallest record.

    ``refused`` are the edges (places in the edge arrays) that reached the merge weight and join nothing; ``kept_apart``
    the pairs of groups that a cannot-link separates, the smaller name first. ``contested`` counts the components that
    had to be decided edge by edge.
    """

    group_of: Places
    refused: npt.NDArray[np.int64]
    kept_apart: frozenset[tuple[int, int]]
    unmet_links: int
    contested: int


Votes = Callable[[Places], tuple[Places, Places]]
"""Given each record's component (-1: of no interest), the pairs inside components that speak against being joined."""


def components(count: int, left: Places, right: Places) -> Places:
    """For each of ``count`` records the smallest record that it is connected to."""
    label = np.arange(count, dtype=np.int32)
    while True:
        one, other = label[left], label[right]
        apart = one != other
        if not apart.any():
            return label
        left, right, one, other = left[apart], right[apart], one[apart], other[apart]
        np.minimum.at(label, np.maximum(one, other), np.minimum(one, other))
        while not np.array_equal(shorter := label[label], label):
            label = shorter


def same_people(count: int, identities: Iterator[npt.NDArray[np.uint64]]) -> Places:
    """A number for each record, the same for those that share an identity (0: none), directly or over others."""
    left: list[Places] = []
    right: list[Places] = []
    for identity in identities:
        known = np.flatnonzero(identity).astype(np.int32)
        order = known[np.argsort(identity[known], kind="stable")]
        same = identity[order[1:]] == identity[order[:-1]]
        left.append(order[:-1][same])
        right.append(order[1:][same])
    return components(count, np.concatenate(left), np.concatenate(right))


def group(
    count: int, edges: EdgeArrays, *, limits: Limits, outranking: frozenset[int], links: Links, votes: Votes
) -> Grouping:
    """Group ``count`` records. ``outranking`` are the numbers of the rules that outrank votes."""
    reaching = np.flatnonzero((edges.rule != NO_RULE) | (edges.weight >= limits.merge_weight))
    linked = np.array(
        [(min(one | other), record) for one, other in links.must for record in one | other], np.int32
    ).reshape(-1, 2)
    label = components(
        count,
        np.concatenate((edges.older[reaching], linked[:, 0])),
        np.concatenate((edges.newer[reaching], linked[:, 1])),
    )
    sizes = np.bincount(label, minlength=count)
    against = votes(np.where(sizes[label] >= _SMALLEST_CONTESTED, label, -1).astype(np.int32))
    contested = sizes > limits.max_records
    contested[label[against[0]]] = True
    for one, other in (*links.cannot, *links.must):
        contested[label[sorted(one | other)]] = True
    # A record by itself has nothing to be decided.
    contested &= sizes > 1
    decide = _Decide(edges, reaching, against, limits, outranking)
    decided = decide.components(label, contested, links)
    kept_apart = frozenset(
        (min(one, other), max(one, other))
        for sides in links.cannot
        for one in {int(decided.group_of[record]) for record in sides[0]}
        for other in {int(decided.group_of[record]) for record in sides[1]}
        if one != other
    )
    return Grouping(decided.group_of, decided.refused, kept_apart, decided.unmet_links, int(contested.sum()))


@dataclass(frozen=True, slots=True)
class _Decided:
    group_of: Places
    refused: npt.NDArray[np.int64]
    unmet_links: int


@dataclass(frozen=True, slots=True)
class _Decide:
    """Puts components to ``cluster``. ``reaching`` are the numbers of the edges that reach the merge weight."""

    edges: EdgeArrays
    reaching: npt.NDArray[np.int64]
    against: tuple[Places, Places]
    limits: Limits
    outranking: frozenset[int]

    def components(self, label: Places, contested: npt.NDArray[np.bool_], links: Links) -> _Decided:
        """Decide the ``contested`` ones, named by their smallest record; the others are groups as they are."""
        records = np.flatnonzero(contested[label]).astype(np.int32)
        members = _by_component(label[records], records)
        numbers = self.reaching[contested[label[self.edges.older[self.reaching]]]]
        own = _by_component(label[self.edges.older[numbers]], numbers)
        opposed = _by_component(label[self.against[0]], np.arange(len(self.against[0])))
        links_of = _links_by_component(label, links)
        group_of = label.copy()
        refused: list[int] = []
        unmet = 0
        for component, places in members.items():
            number_of, pairs = self._pairs(own.get(component, ()), opposed.get(component, ()))
            found = cluster(
                places,
                contact_of={},
                contact_sizes={},
                pairs=pairs,
                limits=self.limits,
                links=links_of.get(component, NO_LINKS),
            )
            for record, name in found.group_of.items():
                group_of[record] = name
            refused += [number_of[edge.left, edge.right] for edge in found.refused]
            unmet += len(found.unmet)
        return _Decided(group_of, np.array(sorted(refused), np.int64), unmet)

    def _pairs(self, own: Sequence[int], opposed: Sequence[int]) -> tuple[dict[tuple[int, int], int], list[Edge]]:
        """A component's edges with their numbers, and all its pairs with those that vote against."""
        edges = self.edges
        number_of: dict[tuple[int, int], int] = {}
        pairs: list[Edge] = []
        for number in own:
            older, newer, rule = int(edges.older[number]), int(edges.newer[number]), int(edges.rule[number])
            number_of[older, newer] = number
            pairs.append(Edge(older, newer, float(edges.weight[number]), _strength(rule, self.outranking)))
        against = self.against
        pairs += [Edge(int(against[0][place]), int(against[1][place]), float("-inf")) for place in opposed]
        return number_of, pairs


def _strength(rule: int, outranking: frozenset[int]) -> Strength:
    if rule == NO_RULE:
        return Strength.MODEL
    return Strength.IDENTITY if rule in outranking else Strength.RULE


def _by_component(component_of: Places, values: npt.NDArray[np.integer[Any]]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for component, value in zip(component_of.tolist(), values.tolist(), strict=True):
        found[component].append(value)
    return found


def _links_by_component(label: Places, links: Links) -> dict[int, Links]:
    """The part of each link that lies in a component. One whose sides lie in two needs no deciding."""
    cannot: dict[int, list[Link]] = defaultdict(list)
    must: dict[int, list[Link]] = defaultdict(list)
    for one, other in links.cannot:
        sides = [_by_component(label[sorted(side)], np.array(sorted(side))) for side in (one, other)]
        for component in sides[0].keys() & sides[1].keys():
            cannot[component].append((set(sides[0][component]), set(sides[1][component])))
    for one, other in links.must:
        if one | other:
            must[int(label[min(one | other)])].append((one, other))
    return {name: Links(cannot.get(name, ()), must.get(name, ())) for name in cannot.keys() | must.keys()}
