"""Two models beside each other: which weights moved, how often they decide alike, and what persons' decisions say.

Light: the scorers are handed in. Keep out: what a report looks like (``matching.report``).
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.matching.model import COMPARISONS, Parameters
from leads_pipeline.matching.pairs import Frequencies, Scorer

_PAIRS_AT_ONCE = 20_000
# Half a bit: the odds change by less than a half; nobody would see it in a decision.
NOTABLE_MOVE = 0.5


class Decision(StrEnum):
    """What a model does with a pair by itself."""

    MERGE = "merge"
    REVIEW = "review"
    APART = "apart"


@dataclass(frozen=True, slots=True)
class CutOffs:
    """Match weights from which on a pair is merged, or put before a person."""

    merge: float
    review: float

    def decide(self, weight: float) -> Decision:
        if weight >= self.merge:
            return Decision.MERGE
        return Decision.REVIEW if weight >= self.review else Decision.APART


@dataclass(frozen=True, slots=True)
class MovedWeight:
    """A level whose weight is another one than before."""

    comparison: str
    level: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """What two models decided about the same pairs: (before, after) → pairs."""

    decisions: Mapping[tuple[Decision, Decision], int]

    @property
    def pairs(self) -> int:
        return sum(self.decisions.values())

    @property
    def share(self) -> float | None:
        """The share of pairs about which both decide alike; ``None`` without pairs."""
        same = sum(count for (before, after), count in self.decisions.items() if before is after)
        return same / self.pairs if self.pairs else None


@dataclass(frozen=True, slots=True)
class Judgement:
    """How merging from the cut-off on agrees with what persons decided."""

    merged_rightly: int
    merged_wrongly: int
    missed: int
    kept_apart_rightly: int

    @property
    def decided(self) -> int:
        return self.merged_rightly + self.merged_wrongly + self.missed + self.kept_apart_rightly

    @property
    def precision(self) -> float | None:
        return _share(self.merged_rightly, self.merged_wrongly)

    @property
    def recall(self) -> float | None:
        return _share(self.merged_rightly, self.missed)


def level_weights(parameters: Parameters) -> dict[tuple[str, str], float]:
    """What each level adds to a pair's weight before frequencies: log2(m/u), in the order of the comparisons."""
    return {
        (comparison.name, level.name): math.log2(m / u)
        for comparison in COMPARISONS
        for level in comparison.levels
        for m, u in [parameters.levels[comparison.name][level.name]]
    }


def moved_weights(before: Parameters, after: Parameters, *, at_least: float = NOTABLE_MOVE) -> list[MovedWeight]:
    """The levels whose weight differs by so much, the largest move first."""
    old, new = level_weights(before), level_weights(after)
    moved = [
        MovedWeight(comparison, level, round(old[comparison, level], 2), round(weight, 2))
        for (comparison, level), weight in new.items()
        if abs(weight - old[comparison, level]) >= at_least
    ]
    return sorted(moved, key=lambda item: -abs(item.after - item.before))


def agreement(
    before: Scorer,
    after: Scorer,
    records: Sequence[MatchFields],
    pairs: Sequence[tuple[int, int]],
    *,
    frequencies: Frequencies,
    cut_offs: CutOffs,
) -> Agreement:
    """What both models decide about ``pairs`` of places in ``records``."""
    old, new = (weights(scorer, records, pairs, frequencies=frequencies) for scorer in (before, after))
    return Agreement(Counter((cut_offs.decide(old[pair]), cut_offs.decide(new[pair])) for pair in old))


def weights(
    scorer: Scorer, records: Sequence[MatchFields], pairs: Sequence[tuple[int, int]], *, frequencies: Frequencies
) -> dict[tuple[int, int], float]:
    """The match weight of each pair, some at a time: the scorer holds what it is given in memory."""
    found: dict[tuple[int, int], float] = {}
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        part = pairs[start : start + _PAIRS_AT_ONCE]
        place_of = {place: number for number, place in enumerate(sorted({place for pair in part for place in pair}))}
        places = list(place_of)
        asked = [(place_of[left], place_of[right]) for left, right in part]
        # No pair's evidence is wanted.
        scored = scorer.score(
            [records[place] for place in places], asked, frequencies=frequencies, explain_from=math.inf
        )
        found.update({(places[pair.left], places[pair.right]): pair.match_weight for pair in scored})
    return found


def judged(
    weights_of: Mapping[tuple[int, int], float], same: Mapping[tuple[int, int], bool], merge: float
) -> Judgement:
    """``same``: for each pair that a person decided, whether the two are one person."""
    counts = Counter((weights_of[pair] >= merge, truth) for pair, truth in same.items())
    return Judgement(counts[True, True], counts[True, False], counts[False, True], counts[False, False])


def _share(right: int, wrong: int) -> float | None:
    return right / (right + wrong) if right + wrong else None
