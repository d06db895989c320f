"""Why two leads are one person's, or are not: every comparison with its weight, for a person to check.

A pair is weighed again as it stands. A decision of the log keeps the weights of its day; which leads were compared is
not kept, and is found by weighing again: the pair whose comparisons come nearest to what was written. Nothing here
holds a value of a lead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import sqlalchemy as sa

from leads_pipeline.config import MatchingSettings
from leads_pipeline.domain.identity_log import Decision
from leads_pipeline.domain.ids import LeadId
from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.domain.match_rules import RuleOutcome, compile_rules
from leads_pipeline.matching.lead_weights import LeadPair, WeighedPair, weigh
from leads_pipeline.matching.pairs import Scorer

PRIOR = "prior"
# Frequencies have moved on since a decision: its weights are found again within so much, all comparisons together.
_SAME_EVIDENCE = 3.0


class ExplainingScorer(Scorer, Protocol):
    """A scorer that can also say how well each field agrees (``scoring.PairScorer``)."""

    def levels(self, records: Sequence[MatchFields], pairs: Sequence[tuple[int, int]]) -> dict[str, dict[str, int]]: ...


@dataclass(frozen=True, slots=True)
class ComparisonWeight:
    """What a comparison adds to the odds, as log2. ``level``: how well the two agree, in the model's word."""

    name: str
    weight: float
    level: str | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The sum that led to a weight. ``leads`` are missing where a decision's pair cannot be told any more.

    ``prior`` is what two leads would weigh of which nothing is known. ``rules``: those whose fields agree,
    with the vetoes that hold. ``uncompared``: one of the two has no such value, or another comparison tells it already.
    """

    weight: float
    prior: float | None
    comparisons: tuple[ComparisonWeight, ...]
    model: str
    merge_weight: float
    review_weight: float
    leads: LeadPair | None = None
    rules: tuple[RuleOutcome, ...] = ()
    uncompared: tuple[str, ...] = ()

    @property
    def probability(self) -> float:
        """That the two are one person, by the model alone."""
        return float(1 / (1 + 2 ** min(-self.weight, 1_000.0)))

    @property
    def against(self) -> tuple[ComparisonWeight, ...]:
        """The comparisons that speak against it, the strongest first."""
        return tuple(sorted((item for item in self.comparisons if item.weight < 0), key=lambda item: item.weight))


def explain_pair(
    connection: sa.Connection,
    tenant: str,
    scorer: ExplainingScorer,
    settings: MatchingSettings,
    fields: Mapping[LeadId, MatchFields],
    pair: LeadPair,
) -> Explanation:
    """Weigh a pair as it stands."""
    (weighed,) = weigh(connection, tenant, scorer, fields, [pair])
    return _explained(weighed, scorer, settings, fields)


def explain_decision(decision: Decision, settings: MatchingSettings) -> Explanation | None:
    """The weights that were written with a decision; ``None`` where there are none, as with a person's."""
    return explain_stored(decision.match_weight, decision.evidence, decision.actor, settings)


def explain_stored(
    match_weight: float | None, evidence: Mapping[str, object], model: str, settings: MatchingSettings
) -> Explanation | None:
    """The weights as they were written; ``None`` where there are none."""
    numbers = {name: float(value) for name, value in evidence.items() if isinstance(value, int | float)}
    if match_weight is None or not numbers:
        return None
    prior = numbers.pop(PRIOR, None)
    return Explanation(
        weight=match_weight,
        prior=prior,
        comparisons=tuple(ComparisonWeight(name, weight) for name, weight in numbers.items()),
        model=model,
        merge_weight=settings.merge_weight,
        review_weight=settings.review_weight,
    )


def with_levels(written: Explanation, now: Explanation) -> Explanation:
    """The weights that were written, with how well the two agree as it is seen now."""
    levels = {item.name: item.level for item in now.comparisons}
    order = list(levels)
    comparisons = [replace(item, level=levels.get(item.name)) for item in written.comparisons]
    comparisons.sort(key=lambda item: order.index(item.name) if item.name in levels else len(order))
    known = {item.name for item in written.comparisons}
    return replace(
        written,
        comparisons=tuple(comparisons),
        leads=now.leads,
        rules=now.rules,
        uncompared=tuple(name for name in now.uncompared if name not in known),
    )


def found_again(
    written: Explanation,
    weighed: Sequence[WeighedPair],
    scorer: ExplainingScorer,
    settings: MatchingSettings,
    fields: Mapping[LeadId, MatchFields],
) -> Explanation | None:
    """Which of the pairs a decision was about: with the weights that were written, and the levels as they are.

    ``None`` where none of them gives these weights any more.
    """
    then = {item.name: item.weight for item in written.comparisons}
    nearest = min(weighed, key=lambda pair: _difference(then, pair.scored.evidence), default=None)
    if nearest is None or _difference(then, nearest.scored.evidence) > _SAME_EVIDENCE:
        return None
    return with_levels(written, _explained(nearest, scorer, settings, fields))


def _explained(
    weighed: WeighedPair,
    scorer: ExplainingScorer,
    settings: MatchingSettings,
    fields: Mapping[LeadId, MatchFields],
) -> Explanation:
    one, other = (fields[lead] for lead in weighed.leads)
    reached = {
        name: next((level for level, count in levels.items() if count), None)
        for name, levels in scorer.levels([one, other], [(0, 1)]).items()
    }
    evidence = weighed.scored.evidence
    # Also what was compared and weighs nothing; what one of the two does not have is left out.
    names = [name for name in (*reached, *evidence) if name != PRIOR and (name in evidence or reached.get(name))]
    return Explanation(
        weight=weighed.scored.match_weight,
        prior=evidence.get(PRIOR),
        comparisons=tuple(
            ComparisonWeight(name, evidence.get(name, 0.0), reached.get(name)) for name in dict.fromkeys(names)
        ),
        model=f"model:{scorer.version}",
        merge_weight=settings.merge_weight,
        review_weight=settings.review_weight,
        leads=weighed.leads,
        rules=tuple(compile_rules(settings.rules).explain(one, other)),
        uncompared=tuple(name for name in reached if name not in names),
    )


def _difference(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    names = (one.keys() | other.keys()) - {PRIOR}
    return sum(abs(one.get(name, 0.0) - other.get(name, 0.0)) for name in names)
