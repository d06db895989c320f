"""What a person says of a pair that was put before them: the same, or two.

To accept is a must-link between the two leads, and merges their contacts; to reject is a cannot-link. Both are
decisions in the log that can be taken back (``contact_undo``), and stay as labels to train and to measure by
(``storage.match_reviews.labels``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.config import MatchingSettings
from leads_pipeline.errors import IdentityRefused, NotFound
from leads_pipeline.matching.explanation import ExplainingScorer, Explanation, explain_pair, explain_stored, with_levels
from leads_pipeline.matching.lead_weights import ScorerOf, loaded, weigher
from leads_pipeline.storage import match_reviews
from leads_pipeline.storage.contact_deciding import Decided, Ruling, deciding
from leads_pipeline.storage.contact_rulings import link_leads, unlink_leads
from leads_pipeline.storage.contact_state import match_fields_of
from leads_pipeline.storage.match_reviews import MatchReview, ReviewState
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReviewOutcome:
    """What became of one review. ``refused`` says why nothing did."""

    review_id: UUID
    decided: Decided | None
    refused: str | None = None


def close_answered(engine: sa.Engine, *, now: datetime) -> int:
    """Close the open reviews whose leads have come together, or are kept apart, by something else; says how many.

    Whoever decides about contacts closes theirs at once; this is for what other runs have settled.
    """
    closed = 0
    with engine.connect() as connection:
        tenants = match_reviews.tenants_with_open_reviews(connection)
    for tenant in tenants:
        with deciding(engine, tenant, dry_run=False) as connection:
            closed += match_reviews.close_answered(connection, tenant, now=now)
    return closed


def accept(engine: sa.Engine, review_id: UUID, ruling: Ruling) -> Decided:
    """Say that the two leads of a review are one person's.

    Raises:
        NotFound: there is no such review, or one of its leads is gone.
        IdentityRefused: it was decided before, or a cannot-link forbids it and is not to be withdrawn.
    """
    tenant = _tenant_of(engine, review_id)
    with deciding(engine, tenant, dry_run=ruling.dry_run) as connection:
        review = _open(connection, review_id)
        decided = link_leads(connection, tenant, review.lead_id, review.other_lead_id, ruling)
        _write(connection, review, ReviewState.ACCEPTED, ruling)
    return _logged(review, ReviewState.ACCEPTED, decided, ruling)


def reject(engine: sa.Engine, review_id: UUID, ruling: Ruling, *, scorer_of: ScorerOf, split: bool = False) -> Decided:
    """Say that the two leads of a review are two persons'.

    ``split``: also if they have come together, by something else; their contact is then taken apart between them.

    Raises:
        NotFound: there is no such review, or one of its leads is gone.
        IdentityRefused: it was decided before; the two are one contact and it is not to be split; or a must-link
            forbids it and is not to be withdrawn.
    """
    tenant = _tenant_of(engine, review_id)
    if split:
        scorer_of = loaded(scorer_of, tenant)
    with deciding(engine, tenant, dry_run=ruling.dry_run) as connection:
        review = _open(connection, review_id, together=split)
        if review.contact_id is not None and review.contact_id == review.other_contact_id and not split:
            raise IdentityRefused(
                f"the leads of review {review_id} are one contact by now, {review.contact_id}: --split takes it apart"
            )
        weigh = weigher(connection, tenant, scorer_of)
        decided = unlink_leads(connection, tenant, review.lead_id, review.other_lead_id, ruling, weigh=weigh)
        _write(connection, review, ReviewState.REJECTED, ruling)
    return _logged(review, ReviewState.REJECTED, decided, ruling)


def decide_all(
    engine: sa.Engine,
    review_ids: Sequence[UUID],
    ruling: Ruling,
    state: ReviewState,
    *,
    scorer_of: ScorerOf,
    split: bool = False,
) -> list[ReviewOutcome]:
    """Decide many, each by itself: what is refused stays as it was, and the others go on."""
    outcomes = []
    for review_id in review_ids:
        try:
            if state is ReviewState.ACCEPTED:
                decided = accept(engine, review_id, ruling)
            else:
                decided = reject(engine, review_id, ruling, scorer_of=scorer_of, split=split)
        except (IdentityRefused, NotFound) as error:
            outcomes.append(ReviewOutcome(review_id, None, str(error)))
        else:
            outcomes.append(ReviewOutcome(review_id, decided))
    return outcomes


def explain_review(
    connection: sa.Connection, review: MatchReview, scorer: ExplainingScorer, settings: MatchingSettings
) -> Explanation | None:
    """Why a pair was put before a person, with the weights of that day; ``None`` if its leads are gone."""
    pair = min(review.lead_id, review.other_lead_id), max(review.lead_id, review.other_lead_id)
    fields = match_fields_of(connection, review.tenant, pair)
    if len(fields) < len(pair):
        return None
    now = explain_pair(connection, review.tenant, scorer, settings, fields, pair)
    written = explain_stored(review.match_weight, review.evidence, review.actor, settings, cut_offs=review.cut_offs)
    return now if written is None else with_levels(written, now)


def _tenant_of(engine: sa.Engine, review_id: UUID) -> str:
    with engine.connect() as connection:
        return _review(connection, review_id).tenant


def _review(connection: sa.Connection, review_id: UUID) -> MatchReview:
    review = match_reviews.get_review(connection, review_id)
    if review is None:
        raise NotFound(f"there is no review {review_id}; `leads review list` shows what there is")
    return review


def _open(connection: sa.Connection, review_id: UUID, *, together: bool = False) -> MatchReview:
    """A review that may be decided. One that closed because its pair came together may be rejected all the same."""
    review = _review(connection, review_id)
    if review.state is ReviewState.OPEN or (together and review.state is ReviewState.CLOSED):
        return review
    by = f" by {review.decided_by}" if review.decided_by else ", as there was nothing to ask any more"
    hint = "; `leads contact history` shows what to undo" if review.decided_by else ""
    raise IdentityRefused(f"review {review_id} is {review.state} already{by}{hint}")


def _write(connection: sa.Connection, review: MatchReview, state: ReviewState, ruling: Ruling) -> None:
    match_reviews.decide_review(
        connection, review.review_id, state, actor=ruling.actor, reason=ruling.reason, now=ruling.now
    )


def _logged(review: MatchReview, state: ReviewState, decided: Decided, ruling: Ruling) -> Decided:
    if not ruling.dry_run:
        log.info("review_decided", review_id=str(review.review_id), state=state, actor=ruling.actor)
    return decided
