"""From a tenant's leads to a matching model of its own: learned without labels, measured, kept, never activated.

What persons decided in reviews is not learned from; it is what the model is measured by. Keep out: how weights are
learned (``matching.training``), and which model serves (``steps.match_models``).
"""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import MatchingSettings
from leads_pipeline.domain.candidates import find_pairs
from leads_pipeline.domain.match_keys import MatchFields, match_keys
from leads_pipeline.domain.match_rules import compile_rules
from leads_pipeline.errors import LeadsError
from leads_pipeline.matching.model import Parameters, shipped_parameters
from leads_pipeline.matching.model_comparison import (
    Agreement,
    CutOffs,
    Judgement,
    agreement,
    judged,
    moved_weights,
    weights,
)
from leads_pipeline.matching.pairs import Frequencies, Scorer, count_terms
from leads_pipeline.matching.scorer_source import parameters_for
from leads_pipeline.storage import identity, match_index, match_models, match_reviews
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)

# Fewer hold too few pairs of one person to tell a typo from a namesake.
LEAST_RECORDS = 1_000
MOST_RECORDS = 100_000
# What the new model and the active one are compared on: leads of contacts that were not learned from.
HELD_OUT_RECORDS = 5_000
_HELD_OUT_PAIRS = 100_000

Progress = Callable[[str], None]


class Learn(Protocol):
    """What ``matching.training.adapt`` does."""

    def __call__(
        self,
        records: Sequence[MatchFields],
        base: Parameters,
        *,
        seed: int,
        version: str,
        max_candidates_per_key: int,
        contacts: int,
    ) -> Parameters: ...


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A model that was learned and kept. ``figures`` is what its report says of it; JSON, no values of leads."""

    version: str
    parameters: Parameters
    figures: Mapping[str, Any]


def has_enough_records(engine: sa.Engine, tenant: str) -> bool:
    """Whether ``train_match_model`` would not refuse the tenant for want of records."""
    with engine.connect() as connection:
        return match_models.count_records(connection, tenant) >= LEAST_RECORDS


def train_match_model(
    engine: sa.Engine,
    tenant: str,
    *,
    settings: MatchingSettings,
    learn: Learn,
    actor: str,
    clock: Clock,
    seed: int = 1,
    most_records: int = MOST_RECORDS,
    progress: Progress = lambda _told: None,
) -> TrainedModel:
    """Learn from at most ``most_records`` of the tenant's records, and keep the model under the day's next version.

    Holds no lock and takes nothing from anybody's way: what it reads is a snapshot of the moment.

    Raises:
        LeadsError: the tenant has too few records to learn from.
    """
    started = clock.monotonic()
    with engine.connect() as connection:
        in_all = match_models.count_records(connection, tenant)
        if in_all < LEAST_RECORDS:
            raise LeadsError(
                f"the tenant {tenant} has {in_all:,} records of leads; training needs {LEAST_RECORDS:,} at least. "
                "Until then the shipped model serves it best"
            )
        progress(f"reading {min(in_all, most_records):,} of {in_all:,} records")
        sampled = match_models.sample_records(connection, tenant, held_out=False, limit=most_records, seed=seed)
        records = list(sampled)
        # Those that are not held out.
        contacts = round(identity.read_size(connection, tenant).contacts * (1 - match_models.HELD_OUT_SHARE))
    base = shipped_parameters()
    progress(f"learning from {len(records):,} records")
    learned = learn(
        records,
        base,
        seed=seed,
        version="new",
        max_candidates_per_key=settings.max_candidates_per_key,
        contacts=contacts,
    )
    with engine.connect() as connection:
        active = parameters_for(connection, tenant)
        comparison = _Comparison(connection, tenant, settings, active, learned)
        progress(f"comparing with the model {active.version} on leads that were held out")
        alike, held_out = comparison.on_held_out(records, seed)
        progress("comparing with what persons decided in reviews")
        by_review = comparison.on_reviews()
    figures = {
        **learned.trained,
        "records": len(records),
        "records_in_all": in_all,
        "seed": seed,
        "base": base.version,
        "compared_with": active.version,
        "moved": [asdict(item) for item in moved_weights(base, learned)],
        "held_out_records": held_out,
        "agreement": _agreement_figures(alike),
        "reviews": {name: _judgement_figures(found) for name, found in by_review.items()},
        "merge_weight": settings.merge_weight,
        "review_weight": settings.review_weight,
        "seconds": round(clock.monotonic() - started, 1),
    }
    model = _keep(engine, tenant, learned, figures, actor=actor, clock=clock)
    log.info("matching_model_trained", tenant=tenant, version=model.version, records=len(records), actor=actor)
    return model


class _Comparison:
    """The new model beside the active one, on the tenant's own leads."""

    def __init__(
        self,
        connection: sa.Connection,
        tenant: str,
        settings: MatchingSettings,
        active: Parameters,
        learned: Parameters,
    ) -> None:
        # Splink and DuckDB cost a second to import.
        from leads_pipeline.matching.scoring import PairScorer  # noqa: PLC0415

        self._connection = connection
        self._tenant = tenant
        self._settings = settings
        self._scorers: dict[str, Scorer] = {"active": PairScorer(active), "new": PairScorer(learned)}

    def on_held_out(self, learned_from: Sequence[MatchFields], seed: int) -> tuple[Agreement, int]:
        """How alike both decide about pairs of which at least one lead was held out, and how many leads those are.

        As new leads meet the known ones in production: candidates by key, and only what no rule decides.
        """
        sampled = match_models.sample_records(
            self._connection, self._tenant, held_out=True, limit=HELD_OUT_RECORDS, seed=seed
        )
        held_out = list(sampled)
        everybody = [*held_out, *learned_from]
        found = self._candidates(everybody, len(held_out))
        if len(found) > _HELD_OUT_PAIRS:
            found = random.Random(seed).sample(found, _HELD_OUT_PAIRS)  # noqa: S311
        places: dict[int, int] = {}
        pairs = [(places.setdefault(one, len(places)), places.setdefault(other, len(places))) for one, other in found]
        records = [everybody[place] for place in places]
        cut_offs = CutOffs(self._settings.merge_weight, self._settings.review_weight)
        frequencies = self._frequencies(records)
        before, after = self._scorers["active"], self._scorers["new"]
        alike = agreement(before, after, records, pairs, frequencies=frequencies, cut_offs=cut_offs)
        return alike, len(held_out)

    def _candidates(self, everybody: Sequence[MatchFields], held_out: int) -> list[tuple[int, int]]:
        """Pairs of places of which one is among the first, held-out ones."""
        cap, rules = self._settings.max_candidates_per_key, compile_rules(self._settings.rules)
        keys = [match_keys(fields) for fields in everybody[:held_out]]
        known: dict[int, list[str]] = {key.key_hash: [] for own in keys for key in own}
        for place, fields in enumerate(everybody[held_out:], start=held_out):
            for key in match_keys(fields):
                if (mates := known.get(key.key_hash)) is not None and len(mates) < cap:
                    mates.append(str(place))
        found = find_pairs(keys, known, cap=cap)
        pairs = sorted([*found.in_chunk, *((one, int(other)) for one, other in found.with_known)])
        return [(one, other) for one, other in pairs if rules.decide(everybody[one], everybody[other]) is None]

    def on_reviews(self) -> dict[str, Judgement]:
        """How right both models would have been about the pairs that persons decided."""
        labels = match_reviews.labels(self._connection, self._tenant)
        wanted = {lead_id for label in labels for lead_id in (label.lead_id, label.other_lead_id)}
        leads = identity.read_arriving(self._connection, self._tenant, wanted)
        place_of = {lead.lead_id: place for place, lead in enumerate(leads)}
        records = [lead.fields for lead in leads]
        same = {
            (place_of[label.lead_id], place_of[label.other_lead_id]): label.same
            for label in labels
            if label.lead_id in place_of and label.other_lead_id in place_of
        }
        frequencies = self._frequencies(records)
        return {
            name: judged(
                weights(scorer, records, list(same), frequencies=frequencies), same, self._settings.merge_weight
            )
            for name, scorer in self._scorers.items()
        }

    def _frequencies(self, records: Sequence[MatchFields]) -> Frequencies:
        terms = count_terms(records).occurrences
        known = match_index.read_frequencies(self._connection, self._tenant, terms) if terms else {}
        return Frequencies(identity.read_size(self._connection, self._tenant).contacts, known)


def _keep(
    engine: sa.Engine, tenant: str, learned: Parameters, figures: Mapping[str, Any], *, actor: str, clock: Clock
) -> TrainedModel:
    now, number = clock.now(), 1
    while True:
        version = f"{now:%Y-%m-%d}.{number}"
        parameters = replace(learned, version=version)
        with engine.begin() as connection:
            kept = match_models.add_model(
                connection,
                tenant,
                version=version,
                parameters=json.loads(parameters.to_json()),
                trained=figures,
                actor=actor,
                now=now,
            )
        if kept:
            return TrainedModel(version, parameters, figures)
        number += 1


def _agreement_figures(found: Agreement) -> dict[str, Any]:
    decisions = {f"{before} → {after}": count for (before, after), count in sorted(found.decisions.items())}
    return {"pairs": found.pairs, "share": found.share, "decisions": decisions}


def _judgement_figures(found: Judgement) -> dict[str, Any]:
    return {"decided": found.decided, "precision": found.precision, "recall": found.recall, **asdict(found)}
