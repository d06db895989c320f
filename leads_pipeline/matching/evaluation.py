"""How well leads were told apart, where the truth is known."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

from leads_pipeline.domain.clustering import Edge, Limits, Strength, cluster
from leads_pipeline.domain.match_keys import MatchFields, match_keys
from leads_pipeline.domain.match_rules import Rule, decided_by_rule
from leads_pipeline.matching.pairs import Scorer, count_terms

Id = TypeVar("Id", bound=Hashable)


@dataclass(frozen=True, slots=True)
class PairwiseScore:
    """Of all pairs of leads: which of those put together belong together, and which of those that do were put together.

    ``f1`` is the harmonic mean. With nothing to find, or nothing found, the share is 1: no pair is wrong or missed.
    """

    precision: float
    recall: float
    f1: float
    true_pairs: int
    found_pairs: int
    correct_pairs: int


def pairwise(truth: Mapping[Id, Hashable], found: Mapping[Id, Hashable]) -> PairwiseScore:
    """Compare two groupings of the same leads, id → group. A lead that either does not know is left out.

    Counted from the sizes of the groups and of their intersections, so the cost follows the leads, not their pairs.
    """
    common = truth.keys() & found.keys()
    correct = _pairs(Counter((truth[lead], found[lead]) for lead in common))
    actual = _pairs(Counter(truth[lead] for lead in common))
    claimed = _pairs(Counter(found[lead] for lead in common))
    precision = correct / claimed if claimed else 1.0
    recall = correct / actual if actual else 1.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return PairwiseScore(precision, recall, f1, actual, claimed, correct)


def _pairs(sizes: Counter[Hashable] | Counter[tuple[Hashable, Hashable]]) -> int:
    return sum(size * (size - 1) // 2 for size in sizes.values())


@dataclass(frozen=True, slots=True)
class Labelled:
    """A record and the person whom it is known to be about."""

    fields: MatchFields
    truth: str


@dataclass(frozen=True)
class ScoredSet:
    """A labelled set with every candidate pair scored: cut-offs can be tried without scoring again."""

    records: Sequence[Labelled]
    edges: list[Edge]
    true_pairs: int
    found_true_pairs: int

    @property
    def blocking_recall(self) -> float:
        """The share of true pairs that share a blocking key at all."""
        return self.found_true_pairs / self.true_pairs if self.true_pairs else 1.0

    def clustered_at(self, limits: Limits) -> PairwiseScore:
        """Pairwise precision and recall after clustering with these cut-offs."""
        clustering = cluster(range(len(self.records)), contact_of={}, contact_sizes={}, pairs=self.edges, limits=limits)
        truth = {place: record.truth for place, record in enumerate(self.records)}
        return pairwise(truth, clustering.group_of)


def score_set(records: Sequence[Labelled], scorer: Scorer, *, max_candidates_per_key: int) -> ScoredSet:
    """Block and score a whole set in memory, as if it came in one chunk."""
    pairs = candidate_pairs(records, max_candidates_per_key=max_candidates_per_key)
    fields = [record.fields for record in records]
    scored = scorer.score(fields, pairs, frequencies=count_terms(fields), explain_from=float("inf"))
    edges = [
        Edge(pair.left, pair.right, pair.match_weight, _strength(records[pair.left], records[pair.right]))
        for pair in scored
    ]
    members: dict[str, list[int]] = defaultdict(list)
    for place, record in enumerate(records):
        members[record.truth].append(place)
    true = {pair for places in members.values() for pair in combinations(places, 2)}
    return ScoredSet(records, edges, len(true), len(true & set(pairs)))


def candidate_pairs(records: Sequence[Labelled], *, max_candidates_per_key: int) -> list[tuple[int, int]]:
    """The pairs that share a key, each record with the newest before it that do."""
    earlier: dict[int, list[int]] = defaultdict(list)
    pairs: set[tuple[int, int]] = set()
    for place, record in enumerate(records):
        for key in match_keys(record.fields):
            pairs.update((other, place) for other in earlier[key.key_hash][-max_candidates_per_key:])
            earlier[key.key_hash].append(place)
    return sorted(pairs)


def _strength(left: Labelled, right: Labelled) -> Strength:
    match decided_by_rule(left.fields, right.fields):
        case Rule.SAME_EMAIL:
            return Strength.IDENTITY
        case Rule.SAME_PHONE_AND_NAME:
            return Strength.RULE
        case _:
            return Strength.MODEL
