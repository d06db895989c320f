"""Why two leads are one person's, or are not: every comparison with its weight, for a person to check.

A pair is weighed again as it stands. A decision of the log keeps the weights and the cut-offs of its day, and which two
leads were compared; how well they agree is read from what they hold now. Nothing here holds a value of a lead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import sqlalchemy as sa

from leads_pipeline.config import MatchingSettings
from leads_pipeline.domain.ids import LeadId
from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.domain.match_rules import RuleOutcome, compile_rules
from leads_pipeline.matching.lead_weights import LeadPair, WeighedPair, weigh
from leads_pipeline.matching.pairs import Scorer
from leads_pipeline.matching.silent_comparisons import Silence, why_silent

PRIOR = "prior"
# Frequencies move on, and so do weights. One that differs by more is of values that have been corrected since.
_SAME_LEVEL = 3.0
CHANGED = "not as it was then"


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
    """The sum that led to a weight. ``leads`` are missing where a decision's pair is not known.

    ``prior`` is what two leads would weigh of which nothing is known. ``rules``: those whose fields agree now,
    with the vetoes that hold. ``silent``: the comparisons that said nothing, and why. Where the
    cut-offs of a decision are not known, as with those of version 0.1, today's stand for them.
    """

    weight: float
    prior: float | None
    comparisons: tuple[ComparisonWeight, ...]
    model: str
    merge_weight: float
    review_weight: float
    leads: LeadPair | None = None
    rules: tuple[RuleOutcome, ...] = ()
    silent: tuple[Silence, ...] = ()
    cut_offs_known: bool = True

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
    return explain_weighed(weighed, scorer, settings, fields)


def explain_stored(
    match_weight: float | None,
    evidence: Mapping[str, object],
    model: str,
    settings: MatchingSettings,
    *,
    cut_offs: tuple[float, float] | None,
    leads: LeadPair | None = None,
) -> Explanation | None:
    """The weights as they were written; ``None`` where there are none, as with a person's decision."""
    numbers = {name: float(value) for name, value in evidence.items() if isinstance(value, int | float)}
    if match_weight is None or not numbers:
        return None
    prior = numbers.pop(PRIOR, None)
    review_weight, merge_weight = cut_offs or (settings.review_weight, settings.merge_weight)
    return Explanation(
        weight=match_weight,
        prior=prior,
        comparisons=tuple(ComparisonWeight(name, weight) for name, weight in numbers.items()),
        model=model,
        merge_weight=merge_weight,
        review_weight=review_weight,
        leads=leads,
        cut_offs_known=cut_offs is not None,
    )


def with_levels(written: Explanation, now: Explanation) -> Explanation:
    """The weights that were written, with how well the two agree as it is seen now."""
    seen = {item.name: item for item in now.comparisons}
    then = {item.name: _with_level(item, seen.get(item.name)) for item in written.comparisons}
    # What was compared and weighed nothing was not written.
    then |= {name: item for name, item in seen.items() if name not in then and not item.weight}
    order = [*seen, *then]
    return replace(
        written,
        comparisons=tuple(sorted(then.values(), key=lambda item: order.index(item.name))),
        leads=now.leads,
        rules=now.rules,
        silent=tuple(item for item in now.silent if item.name not in then),
    )


def _with_level(then: ComparisonWeight, now: ComparisonWeight | None) -> ComparisonWeight:
    alike = now is not None and abs(then.weight - now.weight) <= _SAME_LEVEL and then.weight * now.weight >= 0
    return replace(then, level=now.level if now is not None and alike else CHANGED)


def explain_weighed(
    weighed: WeighedPair,
    scorer: ExplainingScorer,
    settings: MatchingSettings,
    fields: Mapping[LeadId, MatchFields],
) -> Explanation:
    """What ``weigh`` found, told level by level."""
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
        silent=tuple(why_silent(name, weighed.leads, (one, other)) for name in reached if name not in names),
    )
