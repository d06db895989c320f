"""From leads to the model's parameters: with known truth for the shipped model, without labels for anybody's own.

``train`` counts. ``adapt`` is expectation–maximisation over the candidate pairs: u comes from pairs drawn at random, m
and the prior from the pairs weighted by how probably each is of one person, round after round. The shipped model is the
start and, as so many counted pairs (Dirichlet), the counterweight: a comparison of which the data says little stays
what it was. Pairs that share no key are taken for strangers, as they are when scoring.
"""

import math
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from leads_pipeline.domain.candidates import find_pairs
from leads_pipeline.domain.match_fields import match_fields
from leads_pipeline.domain.match_keys import MatchFields, match_keys
from leads_pipeline.domain.validation import ValidLead, validate
from leads_pipeline.matching.evaluation import Labelled
from leads_pipeline.matching.model import COMPARISONS, Parameters
from leads_pipeline.matching.pairs import Frequencies, count_terms
from leads_pipeline.matching.scoring import FREQUENCY_PRIOR_CONTACTS, MISSING, Observations, PairScorer

RANDOM_PAIRS = 1_000_000
# More records teach nothing more, and the pairs of these fit into memory.
MOST_RECORDS = 200_000
_PAIRS_AT_ONCE = 250_000
# Added to each level's count: a level that was not seen is rare, not impossible.
_SMOOTHING = 0.5
# The chance that a field of a true pair says nothing, because it is somebody else's or out of date. Without it one
# disagreement that training never saw would outweigh everything that agrees.
_MIXED_UP = 0.01
# The shipped model counts as much as so many pairs of each comparison.
_PSEUDO_PAIRS = 300.0
_ROUNDS = 12
# Fewer random pairs than this tell no frequency; candidates that are strangers do if there are some, as the rarest
# agreements share a key.
_FEW_RANDOM = 30
_SOME_SHARING = 20

_Numbers = npt.NDArray[np.float64]
_Pairs = npt.NDArray[np.int64]
_MOST_LEVELS = max(len(comparison.levels) for comparison in COMPARISONS)
# Which cells of a (comparison, level) table are levels.
_IS_LEVEL = np.array([[number < len(item.levels) for number in range(_MOST_LEVELS)] for item in COMPARISONS])


@dataclass(frozen=True, slots=True)
class _Table:
    """m and u by comparison and level, in the order of ``COMPARISONS``; 0.5 where there is no level."""

    m: _Numbers
    u: _Numbers

    @classmethod
    def of(cls, parameters: Parameters) -> "_Table":
        m, u = np.full(_IS_LEVEL.shape, 0.5), np.full(_IS_LEVEL.shape, 0.5)
        for row, comparison in enumerate(COMPARISONS):
            for number, level in enumerate(comparison.levels):
                m[row, number], u[row, number] = parameters.levels[comparison.name][level.name]
        return cls(m, u)

    def levels(self) -> dict[str, dict[str, tuple[float, float]]]:
        return {
            comparison.name: {
                level.name: (_rounded(self.m[row, number]), _rounded(self.u[row, number]))
                for number, level in enumerate(comparison.levels)
            }
            for row, comparison in enumerate(COMPARISONS)
        }


def labelled(posts: Iterable[tuple[Mapping[str, object], str]], *, today: date, country: str = "US") -> list[Labelled]:
    """The usable ones of ``posts`` (payload, truth) as identity resolution would see them."""
    judged = ((validate(payload, country=country, today=today), truth) for payload, truth in posts)
    return [Labelled(match_fields(lead), truth) for lead, truth in judged if isinstance(lead, ValidLead)]


def train(
    records: Sequence[Labelled], *, seed: int, version: str, trained: dict[str, Any], max_candidates_per_key: int = 100
) -> Parameters:
    """Learn from leads whose truth is known. The same records and seed give the same parameters."""
    fields = [record.fields for record in records]
    persons = _numbered(record.truth for record in records)
    frequencies = count_terms(fields)
    # Any model will do: which level a pair reaches does not depend on the parameters.
    scorer = PairScorer(_untrained())
    matches = np.array(true_pairs(records), np.int64).reshape(-1, 2)
    m = _shares(_counted(_observed(scorer, fields, matches, frequencies)))
    drawn = _random_pairs(len(fields), random.Random(seed))  # noqa: S311 - a sample, no secret
    random_counts = _counted(
        _observed(scorer, fields, drawn[persons[drawn[:, 0]] != persons[drawn[:, 1]]], frequencies)
    )
    candidates = _candidates(fields, cap=max_candidates_per_key)
    strangers = candidates[persons[candidates[:, 0]] != persons[candidates[:, 1]]]
    sharing = _counted(_observed(scorer, fields, strangers, frequencies))
    u = _strangers(random_counts + _SMOOTHING, sharing, scale=_pairs(len(fields)) / len(drawn))
    table = _Table(_mixed(m, u), u)
    prior = len(matches) / _pairs(len(fields))
    return Parameters(version, prior, int(persons.max()) + 1, table.levels(), trained)


def adapt(
    records: Sequence[MatchFields],
    base: Parameters,
    *,
    seed: int,
    version: str,
    max_candidates_per_key: int,
    drawn_from: int | None = None,
    contacts: int | None = None,
) -> Parameters:
    """Fit ``base`` to records of which nobody says whose they are. The same arguments give the same parameters.

    Of more than ``MOST_RECORDS`` a sample is learned from. ``drawn_from``: ``records`` are themselves a sample, taken
    lead by lead, of so many. ``contacts``: so many people are in all of them; where nobody knows, they are taken to
    grow with the records, which is too many of a sample that is a small part. Memory and time follow the sample: two
    gigabytes and some minutes at most.
    """
    rng = random.Random(seed)  # noqa: S311 - a sample, no secret
    population = drawn_from or len(records)
    if len(records) > MOST_RECORDS:
        records = [records[place] for place in sorted(rng.sample(range(len(records)), MOST_RECORDS))]
    if len(records) < 2:
        return Parameters(version, base.prior, base.prior_contacts, base.levels, {"records": len(records)})
    frequencies = count_terms(records)
    scorer = PairScorer(base)
    drawn = _random_pairs(len(records), rng)
    random_counts = _counted(_observed(scorer, records, drawn, frequencies))
    candidates = _candidates(records, cap=max_candidates_per_key)
    observed = _observed(scorer, records, candidates, frequencies)
    fit = _Fit(observed, random_counts, _pairs(len(records)), len(drawn), _Table.of(base))
    expected = base.prior * base.prior_contacts / max(frequencies.contacts, FREQUENCY_PRIOR_CONTACTS)
    table, prior, matches = fit.run(min(expected, 0.5))
    trained = {
        "base": base.version,
        "records": len(records),
        "candidate_pairs": len(candidates),
        "random_pairs": len(drawn),
        "expected_matches": round(matches, 1),
        "rounds": _ROUNDS,
        "seed": seed,
    }
    # Records drawn one by one match each other as often as all do; there are only fewer people among them.
    people = contacts or round(frequencies.contacts * population / len(records))
    return Parameters(version, prior, max(people, FREQUENCY_PRIOR_CONTACTS), table.levels(), trained)


@dataclass(frozen=True, slots=True)
class _Fit:
    """Expectation–maximisation. ``all_pairs`` and ``drawn`` say how many pairs there are and were drawn at random."""

    observed: Observations
    random_counts: _Numbers
    all_pairs: float
    drawn: int
    base: _Table

    def run(self, prior: float) -> tuple[_Table, float, float]:
        """The fitted table, the prior and how many pairs of one person are expected."""
        nothing = np.zeros_like(self.base.u)
        table = _Table(self.base.m, self._u(nothing, nothing))
        matches = 0.0
        for _ in range(_ROUNDS):
            probability = 1 / (1 + np.exp2(-np.clip(self._weights(table, prior), -60.0, 60.0)))
            matches = float(probability.sum())
            matched = _counted(self.observed, probability)
            u = self._u(matched, _counted(self.observed, 1 - probability))
            table = _Table(_mixed(_normalised(matched + _PSEUDO_PAIRS * self.base.m), u), u)
            # Not below one pair: the logarithm of nothing is nothing to score with.
            prior = min(max(matches, 1.0) / self.all_pairs, 0.5)
        return table, prior, matches

    def _u(self, matched: _Numbers, sharing: _Numbers) -> _Numbers:
        # In a small file some of the pairs that were drawn are of one person.
        scale = max(self.all_pairs / self.drawn, 1.0)
        strangers = np.maximum(self.random_counts - matched / scale, 0.0) + _PSEUDO_PAIRS * self.base.u
        return _strangers(strangers, sharing, scale=scale)

    def _weights(self, table: _Table, prior: float) -> _Numbers:
        weights = np.full(len(self.observed.levels), math.log2(prior / (1 - prior)))
        m, ratio = np.log2(table.m), np.log2(table.m) - np.log2(table.u)
        for row in range(len(COMPARISONS)):
            level, rarity = self.observed.levels[:, row], self.observed.rarity[:, row]
            place = np.maximum(level, 0)
            found = np.where(rarity > 0, m[row][place] + rarity, ratio[row][place])
            weights += np.where(level == MISSING, 0.0, found)
        return weights


def true_pairs(records: Sequence[Labelled]) -> list[tuple[int, int]]:
    """The places of every two records of one person."""
    members: dict[str, list[int]] = defaultdict(list)
    for place, record in enumerate(records):
        members[record.truth].append(place)
    return [pair for places in members.values() for pair in combinations(places, 2)]


def _strangers(random_counts: _Numbers, sharing: _Numbers, *, scale: float) -> _Numbers:
    """u: from the pairs drawn at random, or from the candidates (``sharing``) for a level that was hardly drawn.

    ``scale``: how many pairs there are for each that was drawn.
    """
    drawn = random_counts.sum(axis=1, keepdims=True)
    found = (random_counts < _FEW_RANDOM) & (sharing >= _SOME_SHARING)
    rare = sharing / np.maximum(drawn * max(scale, 1.0), 1.0)
    u = np.where(found, np.minimum(rare, 0.5), _normalised(random_counts))
    return np.where(_IS_LEVEL, u, 0.5)


def _mixed(m: _Numbers, u: _Numbers) -> _Numbers:
    return np.where(_IS_LEVEL, (1 - _MIXED_UP) * m + _MIXED_UP * u, 0.5)


def _shares(counts: _Numbers) -> _Numbers:
    return _normalised(counts + _SMOOTHING)


def _normalised(counts: _Numbers) -> _Numbers:
    levels = np.where(_IS_LEVEL, counts, 0.0)
    return np.where(_IS_LEVEL, levels / np.maximum(levels.sum(axis=1, keepdims=True), 1e-300), 0.5)


def _counted(observed: Observations, weights: _Numbers | None = None) -> _Numbers:
    """How many pairs reach each level; each counts as much as its weight, 1 without."""
    counts = np.zeros(_IS_LEVEL.shape)
    for row in range(len(COMPARISONS)):
        level = observed.levels[:, row]
        known = level != MISSING
        counts[row] = np.bincount(
            level[known], weights=None if weights is None else weights[known], minlength=_MOST_LEVELS
        )
    return counts


def _observed(
    scorer: PairScorer, fields: Sequence[MatchFields], pairs: _Pairs, frequencies: Frequencies
) -> Observations:
    parts = [scorer.observe(*part, frequencies=frequencies) for part in _some_at_a_time(fields, pairs)]
    none = (0, len(COMPARISONS))
    return Observations(
        np.concatenate([np.empty(none, np.int8), *(part.levels for part in parts)]),
        np.concatenate([np.empty(none, np.float32), *(part.rarity for part in parts)]),
    )


def _some_at_a_time(
    fields: Sequence[MatchFields], pairs: _Pairs
) -> Iterator[tuple[list[MatchFields], list[tuple[int, int]]]]:
    """Some pairs, with just the records that they are of."""
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        places, renamed = np.unique(pairs[start : start + _PAIRS_AT_ONCE], return_inverse=True)
        left, right = renamed.reshape(-1, 2).T.tolist()
        yield [fields[place] for place in places.tolist()], list(zip(left, right, strict=True))


def _candidates(fields: Sequence[MatchFields], *, cap: int) -> _Pairs:
    keys = [match_keys(record) for record in fields]
    pairs = np.array(sorted(find_pairs(keys, {}, cap=cap).in_chunk), np.int64)
    return pairs.reshape(-1, 2)


def _random_pairs(count: int, rng: random.Random) -> _Pairs:
    """Pairs drawn at random, or simply all of them where those are fewer."""
    if _pairs(count) <= RANDOM_PAIRS:
        return np.array(list(combinations(range(count), 2)), np.int64).reshape(-1, 2)
    drawn = np.random.default_rng(rng.getrandbits(64)).integers(0, count, (RANDOM_PAIRS, 2))
    different: _Pairs = drawn[drawn[:, 0] != drawn[:, 1]]
    return different


def _numbered(names: Iterable[str]) -> npt.NDArray[np.int64]:
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)


def _pairs(count: int) -> float:
    return count * (count - 1) / 2


def _rounded(share: float) -> float:
    return float(f"{share:.4g}")


def _untrained() -> Parameters:
    even = {comparison.name: {level.name: (0.5, 0.5) for level in comparison.levels} for comparison in COMPARISONS}
    return Parameters("untrained", 0.001, 1_000, even, {})
