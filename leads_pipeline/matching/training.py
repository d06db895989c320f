"""From leads whose truth is known to the model's parameters.

m is counted on the pairs of one person, u on pairs drawn at random, with the same comparisons that score. Pairs with
the same e-mail are left out of m: a rule joins those, so the model must be right about the others.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from itertools import combinations
from typing import Any

from leads_pipeline.domain.match_fields import match_fields
from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.domain.validation import ValidLead, validate
from leads_pipeline.matching.evaluation import Labelled
from leads_pipeline.matching.model import COMPARISONS, Parameters
from leads_pipeline.matching.scoring import PairScorer

RANDOM_PAIRS = 2_000_000
_PAIRS_AT_ONCE = 250_000
# Added to each level's count: a level that was not seen is rare, not impossible.
_SMOOTHING = 0.5
# The chance that a field of a true pair says nothing, because it is somebody else's or out of date. Real files are
# dirtier than invented ones; without it one disagreement would outweigh everything that agrees.
_MIXED_UP = 0.03


def labelled(posts: Iterable[tuple[Mapping[str, object], str]], *, today: date, country: str = "US") -> list[Labelled]:
    """The usable ones of ``posts`` (payload, truth) as identity resolution would see them."""
    judged = ((validate(payload, country=country, today=today), truth) for payload, truth in posts)
    return [Labelled(fields_of(lead), truth) for lead, truth in judged if isinstance(lead, ValidLead)]


def fields_of(lead: ValidLead) -> MatchFields:
    """The part of a validated lead that is compared."""
    return match_fields(lead)


def train(records: Sequence[Labelled], *, seed: int, version: str, trained: dict[str, Any]) -> Parameters:
    """Learn every level's m and u and the prior. The same records and seed give the same parameters."""
    fields = [record.fields for record in records]
    matches = true_pairs(records)
    undecided = [(a, b) for a, b in matches if not _same_email(fields[a], fields[b])]
    # Any model will do: which level a pair reaches does not depend on the parameters.
    scorer = PairScorer(_untrained())
    m = _shares(_counted(scorer, fields, undecided))
    u = _shares(_counted(scorer, fields, _random_pairs(records, random.Random(seed))))  # noqa: S311
    levels = {
        name: {
            level: (_rounded((1 - _MIXED_UP) * m[name][level] + _MIXED_UP * u[name][level]), _rounded(u[name][level]))
            for level in m[name]
        }
        for name in m
    }
    prior = len(matches) / (len(records) * (len(records) - 1) / 2)
    return Parameters(version, prior, len({record.truth for record in records}), levels, trained)


def true_pairs(records: Sequence[Labelled]) -> list[tuple[int, int]]:
    """The places of every two records of one person."""
    members: dict[str, list[int]] = defaultdict(list)
    for place, record in enumerate(records):
        members[record.truth].append(place)
    return [pair for places in members.values() for pair in combinations(places, 2)]


def _same_email(left: MatchFields, right: MatchFields) -> bool:
    return left.email_key is not None and left.email_key == right.email_key


def _random_pairs(records: Sequence[Labelled], rng: random.Random) -> list[tuple[int, int]]:
    size = len(records)
    drawn = ((rng.randrange(size), rng.randrange(size)) for _ in range(RANDOM_PAIRS))
    return [(a, b) for a, b in drawn if records[a].truth != records[b].truth]


def _counted(
    scorer: PairScorer, fields: Sequence[MatchFields], pairs: Sequence[tuple[int, int]]
) -> dict[str, dict[str, int]]:
    total = {
        comparison.name: dict.fromkeys((level.name for level in comparison.levels), 0) for comparison in COMPARISONS
    }
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        for name, counts in scorer.levels(fields, pairs[start : start + _PAIRS_AT_ONCE]).items():
            for level, count in counts.items():
                total[name][level] += count
    return total


def _shares(counts: dict[str, dict[str, int]]) -> dict[str, dict[str, float]]:
    shares = {}
    for name, levels in counts.items():
        total = sum(levels.values()) + _SMOOTHING * len(levels)
        shares[name] = {level: (count + _SMOOTHING) / total for level, count in levels.items()}
    return shares


def _rounded(share: float) -> float:
    return float(f"{share:.4g}")


def _untrained() -> Parameters:
    even = {comparison.name: {level.name: (0.5, 0.5) for level in comparison.levels} for comparison in COMPARISONS}
    return Parameters("untrained", 0.001, 1_000, even, {})
