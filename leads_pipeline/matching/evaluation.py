"""How well leads were told apart, where the truth is known.

Two measures, each with precision, recall and F1. Pairwise counts pairs of leads, so a group of 50 weighs 1,225 times a
group of two. B-cubed (Bagga and Baldwin, 1998) averages over leads, so each weighs the same; it flatters data in which
most people left one lead. Both are counted from the sizes of groups: the cost follows the leads, not their pairs.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

from leads_pipeline.config import MatchingSettings
from leads_pipeline.domain.candidates import find_pairs
from leads_pipeline.domain.clustering import Edge, Limits, Strength, cluster
from leads_pipeline.domain.match_keys import MatchFields, match_keys
from leads_pipeline.domain.match_rules import Rules, compile_rules
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


@dataclass(frozen=True, slots=True)
class BCubedScore:
    """Averages over leads: of those in its group, the share that is of its person; of its person's, that in its group.

    Every lead is in its own group, so no share is 0; of no leads at all each is 1.
    """

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class GroupSizes:
    """How many groups there are, how many of them hold one lead, and how many leads the largest holds."""

    groups: int
    single: int
    largest: int


def pairwise(truth: Mapping[Id, Hashable], found: Mapping[Id, Hashable]) -> PairwiseScore:
    """Compare two groupings of the same leads, id → group. A lead that either does not know is left out."""
    actual, claimed, correct = _sizes(truth, found)
    actual_pairs, claimed_pairs, correct_pairs = (_pairs(sizes.values()) for sizes in (actual, claimed, correct))
    precision = correct_pairs / claimed_pairs if claimed_pairs else 1.0
    recall = correct_pairs / actual_pairs if actual_pairs else 1.0
    return PairwiseScore(precision, recall, _harmonic(precision, recall), actual_pairs, claimed_pairs, correct_pairs)


def bcubed(truth: Mapping[Id, Hashable], found: Mapping[Id, Hashable]) -> BCubedScore:
    """Compare two groupings of the same leads, id → group. A lead that either does not know is left out."""
    actual, claimed, correct = _sizes(truth, found)
    leads = sum(correct.values())
    if not leads:
        return BCubedScore(1.0, 1.0, 1.0)
    # Each of the n leads that a group shares with a person has the same share, n of the group's or of the person's.
    precision = sum(size * size / claimed[group] for (_person, group), size in correct.items()) / leads
    recall = sum(size * size / actual[person] for (person, _group), size in correct.items()) / leads
    return BCubedScore(precision, recall, _harmonic(precision, recall))


def group_sizes(groups: Mapping[Id, Hashable]) -> GroupSizes:
    """Count the groups of id → group."""
    sizes = Counter(groups.values())
    return GroupSizes(len(sizes), sum(size == 1 for size in sizes.values()), max(sizes.values(), default=0))


def _sizes(
    truth: Mapping[Id, Hashable], found: Mapping[Id, Hashable]
) -> tuple[Counter[Hashable], Counter[Hashable], Counter[tuple[Hashable, Hashable]]]:
    """How many leads each person has, each group holds, and each of the two share."""
    common = truth.keys() & found.keys()
    return (
        Counter(truth[lead] for lead in common),
        Counter(found[lead] for lead in common),
        Counter((truth[lead], found[lead]) for lead in common),
    )


def _pairs(sizes: Iterable[int]) -> int:
    return sum(size * (size - 1) // 2 for size in sizes)


def _harmonic(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


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
        truth = {place: record.truth for place, record in enumerate(self.records)}
        clustering = cluster(truth, contact_of={}, contact_sizes={}, pairs=self.edges, limits=limits)
        return pairwise(truth, clustering.group_of)


def score_set(
    records: Sequence[Labelled], scorer: Scorer, *, max_candidates_per_key: int, rules: Rules | None = None
) -> ScoredSet:
    """Block and score a whole set in memory, as if it came in one chunk. ``rules``: as shipped if not given."""
    fields = [record.fields for record in records]
    pairs = candidate_pairs(records, max_candidates_per_key=max_candidates_per_key)
    edges = _weighed(fields, pairs, scorer, rules=rules or compile_rules(MatchingSettings().rules))
    members: dict[str, list[int]] = defaultdict(list)
    for place, record in enumerate(records):
        members[record.truth].append(place)
    true = {pair for places in members.values() for pair in combinations(places, 2)}
    return ScoredSet(records, edges, len(true), len(true & set(pairs)))


def candidate_pairs(records: Sequence[Labelled], *, max_candidates_per_key: int) -> list[tuple[int, int]]:
    """The pairs that a chunk of all records would compare, in order."""
    keys = [match_keys(record.fields) for record in records]
    return sorted(find_pairs(keys, {}, cap=max_candidates_per_key).in_chunk)


def _weighed(
    fields: Sequence[MatchFields], pairs: Sequence[tuple[int, int]], scorer: Scorer, *, rules: Rules
) -> list[Edge]:
    scored = scorer.score(fields, pairs, frequencies=count_terms(fields), explain_from=float("inf"))
    return [
        Edge(pair.left, pair.right, pair.match_weight, _strength(rules, fields[pair.left], fields[pair.right]))
        for pair in scored
    ]


def limits_of(settings: MatchingSettings) -> Limits:
    """The cut-offs of leads.yaml as clustering takes them."""
    return Limits(
        merge_weight=settings.merge_weight,
        veto_weight=settings.veto_weight,
        max_records=settings.max_records_per_contact,
        max_contacts=settings.max_contacts_per_merge,
    )


def _strength(rules: Rules, left: MatchFields, right: MatchFields) -> Strength:
    rule = rules.decide(left, right)
    if rule is None:
        return Strength.MODEL
    return Strength.IDENTITY if rules.outranks_votes(rule) else Strength.RULE
