"""Pairs of leads that are there already, weighed as the pipeline would: for decisions and explanations."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from leads_pipeline.domain.ids import LeadId
from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.matching.pairs import Frequencies, ScoredPair, Scorer, terms_of
from leads_pipeline.storage import identity, match_index

LeadPair = tuple[LeadId, LeadId]
# A tenant's scorer; loading one takes a second.
ScorerOf = Callable[[str], Scorer]

# The weights of all pairs are wanted, also far below the cut-offs.
_ALL = -1_000.0


@dataclass(frozen=True, slots=True)
class WeighedPair:
    """Two leads and what the model says of them; ``scored.evidence`` has each comparison's weight."""

    leads: LeadPair
    scored: ScoredPair


def weigh(
    connection: sa.Connection,
    tenant: str,
    scorer: Scorer,
    fields: Mapping[LeadId, MatchFields],
    pairs: Sequence[LeadPair],
) -> list[WeighedPair]:
    """Score ``pairs`` of leads, with how common their values are among the tenant's contacts of now."""
    leads = sorted({lead for pair in pairs for lead in pair})
    place_of = {lead: place for place, lead in enumerate(leads)}
    terms = {term for lead in leads for term in terms_of(fields[lead]).items()}
    frequencies = Frequencies(
        identity.read_size(connection, tenant).contacts, match_index.read_frequencies(connection, tenant, terms)
    )
    scored = scorer.score(
        [fields[lead] for lead in leads],
        [(place_of[one], place_of[other]) for one, other in pairs],
        frequencies=frequencies,
        explain_from=_ALL,
    )
    return [WeighedPair((leads[pair.left], leads[pair.right]), pair) for pair in scored]


def loaded(scorer_of: ScorerOf, tenant: str) -> ScorerOf:
    """``scorer_of`` with the tenant's scorer at hand: nobody should wait for it who waits for the identity lock."""
    scorer = scorer_of(tenant)
    return lambda _tenant: scorer


def weigher(
    connection: sa.Connection, tenant: str, scorer_of: ScorerOf
) -> Callable[[Mapping[LeadId, MatchFields], Sequence[LeadPair]], Mapping[LeadPair, float]]:
    """``weigh`` as ``storage.contact_rulings`` asks for it: only the weights, by pair in the order of ids.

    The scorer is loaded when it is asked for.
    """

    def weights(fields: Mapping[LeadId, MatchFields], pairs: Sequence[LeadPair]) -> Mapping[LeadPair, float]:
        found = weigh(connection, tenant, scorer_of(tenant), fields, pairs) if pairs else []
        return {(min(item.leads), max(item.leads)): item.scored.match_weight for item in found}

    return weights
