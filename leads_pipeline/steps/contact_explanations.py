"""Why a contact is one person, and why two leads are or are not the same one: from the log, weighed again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.config import MatchingSettings
from leads_pipeline.domain.identity_log import Decision, DecisionKind, Link, LinkKind, standing
from leads_pipeline.domain.ids import ContactId, LeadId
from leads_pipeline.errors import NotFound
from leads_pipeline.matching.explanation import (
    ExplainingScorer,
    Explanation,
    explain_pair,
    explain_stored,
    explain_weighed,
    with_levels,
)
from leads_pipeline.matching.lead_weights import weigh
from leads_pipeline.storage.contact_links import links_of
from leads_pipeline.storage.contact_reading import find_contact, read_history
from leads_pipeline.storage.contact_state import contacts_of, match_fields_of, read_contacts
from leads_pipeline.storage.match_reviews import MatchReview, reviews_between

# Every pair of a contact is weighed again, which grows with the square.
MAX_LEADS_WEIGHED = 60


@dataclass(frozen=True)
class ExplainedDecision:
    """A decision that holds, and the sum behind it; a person's has none."""

    decision: Decision
    explanation: Explanation | None


@dataclass(frozen=True)
class ExplainedContact:
    """What made a contact what it is, oldest first, and how its leads agree with one another today.

    ``against``: pairs of its leads that the model would not put together, the worst first. ``left_out``: leads beyond
    those whose pairs were weighed.
    """

    tenant: str
    contact_id: ContactId
    leads: int
    decisions: Sequence[ExplainedDecision]
    weighed: int
    in_favour: int
    against: Sequence[tuple[LeadId, LeadId, float]]
    links: Sequence[Link] = field(default=())
    left_out: int = 0


@dataclass(frozen=True)
class ExplainedPair:
    """Two leads. ``decisions``: those that hold and moved one of them. ``links``: those that decide about the two."""

    tenant: str
    contacts: tuple[ContactId, ContactId]
    explanation: Explanation
    decisions: Sequence[Decision]
    links: Sequence[Link]
    reviews: Sequence[MatchReview] = ()


def explain_contact(
    engine: sa.Engine, contact: UUID, *, scorer_of: Callable[[str], ExplainingScorer], settings: MatchingSettings
) -> ExplainedContact:
    """Explain a contact, named by its id, that of one merged into it, or a lead's.

    Raises:
        NotFound: there is no such contact.
    """
    with engine.connect() as connection:
        found = find_contact(connection, contact)
        if found is None:
            raise NotFound(f"there is no contact {contact}, and no lead of this id that belongs to one")
        tenant, whole = found.tenant, found.contact_id
        scorer = scorer_of(tenant)
        leads = sorted(read_contacts(connection, tenant, [whole]).state.leads_of(whole))
        history = read_history(connection, tenant, whole)
        undone = standing(history)
        held = [item for item in history if item.merge_id not in undone and item.kind is not DecisionKind.UNDO]
        every = set(combinations(leads[:MAX_LEADS_WEIGHED], 2))
        # One of the two may be another contact's by now.
        compared = {pair for item in held if (pair := _compared(item))}
        fields = match_fields_of(connection, tenant, {lead for pair in every | compared for lead in pair})
        pairs = sorted(pair for pair in every | compared if fields.keys() >= {*pair})
        weighed = {pair.leads: pair for pair in weigh(connection, tenant, scorer, fields, pairs)} if pairs else {}
        links = links_of(connection, tenant, leads)
    decisions = []
    for decision in held:
        written = explain_stored(
            decision.match_weight,
            decision.evidence,
            decision.actor,
            settings,
            cut_offs=decision.cut_offs,
            leads=decision.compared,
        )
        pair = _compared(decision)
        if written is not None and pair in weighed:
            written = with_levels(written, explain_weighed(weighed[pair], scorer, settings, fields))
        decisions.append(ExplainedDecision(decision, written))
    scores = sorted((item.scored.match_weight, *pair) for pair, item in weighed.items() if pair in every)
    return ExplainedContact(
        tenant=tenant,
        contact_id=whole,
        leads=len(leads),
        decisions=decisions,
        weighed=len(scores),
        in_favour=sum(weight >= settings.merge_weight for weight, _one, _other in scores),
        against=[(one, other, weight) for weight, one, other in scores if weight < 0],
        links=links,
        left_out=max(len(leads) - MAX_LEADS_WEIGHED, 0),
    )


def explain_leads(
    engine: sa.Engine,
    lead: UUID,
    other: UUID,
    *,
    scorer_of: Callable[[str], ExplainingScorer],
    settings: MatchingSettings,
) -> ExplainedPair:
    """Explain a pair of leads of one tenant.

    Raises:
        NotFound: a lead belongs to no contact.
    """
    pair = LeadId(min(lead, other)), LeadId(max(lead, other))
    with engine.connect() as connection:
        tenants = [_tenant_of(connection, item) for item in pair]
        if tenants[0] != tenants[1]:
            raise NotFound(f"{lead} and {other} are leads of two tenants")
        tenant = tenants[0]
        owner = contacts_of(connection, tenant, pair)
        for item in pair:
            if item not in owner:
                raise NotFound(f"lead {item} belongs to no contact (yet); `leads journey {item}` tells where it is")
        fields = match_fields_of(connection, tenant, pair)
        explanation = explain_pair(connection, tenant, scorer_of(tenant), settings, fields, pair)
        history = read_history(connection, tenant, owner[pair[0]])
        state = read_contacts(connection, tenant, owner.values()).state
        links = [
            item
            for item in links_of(connection, tenant, state.contact_of)
            if _between(item, state.contact_of, owner[pair[0]], owner[pair[1]], pair)
        ]
        reviews = reviews_between(connection, owner[pair[0]], owner[pair[1]], pair)
    undone = standing(history)
    return ExplainedPair(
        tenant=tenant,
        contacts=(owner[pair[0]], owner[pair[1]]),
        explanation=explanation,
        decisions=[
            item
            for item in history
            if item.merge_id not in undone
            and item.kind is not DecisionKind.UNDO
            and not item.moved.keys().isdisjoint(pair)
        ],
        links=links,
        reviews=reviews,
    )


def _compared(decision: Decision) -> tuple[LeadId, LeadId] | None:
    """The two leads that were compared, in the order of their ids."""
    return (min(decision.compared), max(decision.compared)) if decision.compared else None


def _between(
    link: Link,
    contact_of: Mapping[LeadId, ContactId],
    one: ContactId,
    other: ContactId,
    pair: tuple[LeadId, LeadId],
) -> bool:
    """Whether a link decides about the two: it names both leads, or keeps their contacts apart."""
    for left, right in (link.sides, link.sides[::-1]):
        if pair[0] in left and pair[1] in right:
            return True
        owners = ({contact_of.get(lead) for lead in side} for side in (left, right))
        if link.kind is LinkKind.CANNOT and one in next(owners) and other in next(owners):
            return True
    return False


def _tenant_of(connection: sa.Connection, lead: LeadId) -> str:
    found = find_contact(connection, lead)
    if found is None or not found.by_lead:
        raise NotFound(f"lead {lead} belongs to no contact (yet); `leads journey {lead}` tells where it is")
    return found.tenant
