"""What joins the leads of a chunk to each other and to known records, and what speaks against it.

The records that share a key are found, the model weighs each pair, rules decide what needs no probability. Keep out:
what follows from the weights (``domain.clustering``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from leads_pipeline.config import MatchingSettings
from leads_pipeline.domain.candidates import find_pairs
from leads_pipeline.domain.clustering import Edge, Strength
from leads_pipeline.domain.corrected_leads import home_pairs, is_home_pair
from leads_pipeline.domain.match_keys import MatchFields, match_keys
from leads_pipeline.domain.match_rules import compile_rules
from leads_pipeline.domain.resolution import Record
from leads_pipeline.matching.arrivals import Arrivals
from leads_pipeline.matching.pairs import Frequencies, ScoredPair, Scorer, count_terms, with_exchanged_names
from leads_pipeline.storage import identity, match_index
from leads_pipeline.storage.identity import ArrivingLead


@dataclass(frozen=True)
class Weighed:
    """The records that may be joined, arriving ones first, with what joins them or speaks against it as edges.

    ``rules`` and ``evidence`` say why, by pair of places. ``candidates``: pairs that were weighed; ``capped_keys``:
    keys that too many share to be compared with all of them.
    """

    records: list[Record]
    edges: list[Edge]
    rules: Mapping[tuple[int, int], str]
    evidence: Mapping[tuple[int, int], ScoredPair]
    candidates: int = 0
    capped_keys: int = 0


class Weighing:
    """Weighs the arriving leads of one tenant's chunk."""

    def __init__(self, connection: sa.Connection, tenant: str, settings: MatchingSettings, scorer: Scorer) -> None:
        self._connection = connection
        self._tenant = tenant
        self._settings = settings
        self._scorer = scorer
        self._rules = compile_rules(settings.rules)

    def weigh(self, arrivals: Arrivals) -> Weighed:
        """Find what they may be one with, and weigh it."""
        records, pairs, capped_keys = self._find(arrivals)
        scored = self._scored(records, pairs)
        decided = {
            (pair.left, pair.right): rule
            for pair in scored
            if (rule := self._rules.decide(records[pair.left].fields, records[pair.right].fields))
        }
        weighed = self._worth_grouping(records, scored, decided, arrivals)
        return replace(weighed, candidates=len(pairs), capped_keys=capped_keys)

    def _find(self, arrivals: Arrivals) -> tuple[list[Record], list[tuple[int, int]], int]:
        """The arriving leads and every known record that shares a key with one of them, and the pairs that do."""
        cap, tenant = self._settings.max_candidates_per_key, self._tenant
        keys = [match_keys(lead.fields) for lead in arrivals.leads]
        distinct = {key for own in keys for key in own}
        found = match_index.find_candidates(self._connection, tenant, distinct, cap=cap)
        candidates = find_pairs(keys, found, cap=cap, repeats=self._repeated(arrivals.leads))
        known = identity.read_records(self._connection, tenant, {lead_id for _, lead_id in candidates.with_known})
        place_of = {str(item.lead_id): place for place, item in enumerate(known, start=len(arrivals.leads))}
        pairs = list(candidates.in_chunk)
        pairs += [(place, place_of[lead]) for place, lead in candidates.with_known if lead in place_of]
        if arrivals.loose:
            # Whether a corrected lead stays is weighed, also if it shares no key with its contact any more.
            own_records = identity.read_records_of(
                self._connection, set(arrivals.loose.values()), limit=self._settings.max_records_per_contact
            )
            known += [item for item in own_records if str(item.lead_id) not in place_of]
        records = [
            Record(lead.lead_id, lead.revision, lead.fields, arrivals.contact_of.get(lead.lead_id), True)
            for lead in arrivals.leads
        ]
        records += [Record(item.lead_id, 0, item.fields, item.contact_id, False) for item in known]
        if arrivals.loose:
            pairs = [*{*pairs, *home_pairs(records, arrivals.loose)}]
        return records, sorted(pairs), candidates.capped_keys

    def _repeated(self, leads: Sequence[ArrivingLead]) -> dict[int, int]:
        """The places of leads that look like one before them and are surely the same person's, and whose."""
        first_of: dict[MatchFields, int] = {}
        looks = ((place, lead.fields, first_of.setdefault(lead.fields, place)) for place, lead in enumerate(leads))
        return {place: first for place, look, first in looks if place != first and self._rules.decide(look, look)}

    def _scored(self, records: Sequence[Record], pairs: Sequence[tuple[int, int]]) -> Sequence[ScoredPair]:
        # Only an arriving record's values can agree with another's, so only theirs are looked up.
        arriving = count_terms(record.fields for record in records if record.arriving)
        terms = with_exchanged_names(arriving.occurrences)
        known = match_index.read_frequencies(self._connection, self._tenant, terms) if pairs else {}
        size = identity.read_size(self._connection, self._tenant)
        frequencies = Frequencies(
            size.contacts + arriving.contacts, {term: count + known.get(term, 0) for term, count in terms.items()}
        )
        return self._scorer.score(
            [record.fields for record in records],
            pairs,
            frequencies=frequencies,
            explain_from=self._settings.review_weight,
        )

    def _worth_grouping(
        self,
        records: Sequence[Record],
        scored: Sequence[ScoredPair],
        decided: Mapping[tuple[int, int], str],
        arrivals: Arrivals,
    ) -> Weighed:
        """Leave out whom nothing joins to anybody: most of those that were compared, and nobody's vote."""
        review, merge, veto = self._settings.review_weight, self._settings.merge_weight, self._settings.veto_weight
        reached = {
            contact
            for pair in scored
            if pair.match_weight >= review or (pair.left, pair.right) in decided
            for place in (pair.left, pair.right)
            if (contact := records[place].contact_id) is not None
        }
        kept: list[Record] = []
        place_of: dict[int, int] = {}
        for place, record in enumerate(records):
            if record.arriving or record.contact_id in reached:
                place_of[place] = len(kept)
                kept.append(record)
        edges: list[Edge] = []
        rules: dict[tuple[int, int], str] = {}
        evidence: dict[tuple[int, int], ScoredPair] = {}
        for pair in scored:
            rule = decided.get((pair.left, pair.right))
            weight, strength = pair.match_weight, Strength.MODEL
            if rule is None and veto <= weight < review:
                continue  # it neither joins nor votes
            one, other = place_of.get(pair.left), place_of.get(pair.right)
            if one is None or other is None:
                continue
            if rule is not None:
                rules[one, other] = rule
                strength = Strength.IDENTITY if self._rules.outranks_votes(rule) else Strength.RULE
            if arrivals.loose and weight >= review and is_home_pair(kept[one], kept[other], arrivals.loose):
                # A corrected lead stays where it is on what would only make a person look elsewhere.
                weight += merge - review
            if pair.evidence:
                evidence[one, other] = pair
            edges.append(Edge(one, other, weight, strength))
        return Weighed(kept, edges, rules, evidence)
