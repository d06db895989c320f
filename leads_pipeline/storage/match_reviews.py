"""Pairs that a person is asked about, and what came of each."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.ids import ContactId, LeadId
from leads_pipeline.storage.golden import uuid_array


class ReviewState(StrEnum):
    OPEN = "open"
    ACCEPTED = "accepted"  # a person says: one and the same
    REJECTED = "rejected"  # a person says: two
    CLOSED = "closed"  # no question any more: the two came together, or are kept apart, by something else


class ReviewCause(StrEnum):
    GREY = "grey"  # between the two cut-offs
    REFUSED = "refused"  # it reached the merge weight; votes or sizes spoke against it


class ReviewOrder(StrEnum):
    WEIGHT = "weight"
    AGE = "age"


@dataclass(frozen=True, slots=True)
class MatchReview:
    """A pair of leads, newer first, and the contacts that they belong to by now (``None``: a lead that is gone).

    ``cut_offs``: the review weight and the merge weight of the day on which it was opened.
    """

    review_id: UUID
    tenant: str
    lead_id: LeadId
    other_lead_id: LeadId
    contact_id: ContactId | None
    other_contact_id: ContactId | None
    match_weight: float
    evidence: Mapping[str, Any]
    cause: ReviewCause
    actor: str
    state: ReviewState
    opened_at: datetime
    decided_at: datetime | None
    decided_by: str | None
    reason: str | None
    cut_offs: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class ReviewFilter:
    tenant: str | None = None
    cause: ReviewCause | None = None
    state: ReviewState | None = ReviewState.OPEN
    min_weight: float | None = None
    max_weight: float | None = None


@dataclass(frozen=True, slots=True)
class Label:
    """What a person said of two leads, for training and evaluation."""

    lead_id: LeadId
    other_lead_id: LeadId
    same: bool


_SELECT = """
    select r.review_id, r.tenant, r.lead_id, r.other_lead_id, d.contact_id, e.contact_id as other_contact_id,
        r.match_weight, r.evidence, r.cause, r.actor, r.state, r.opened_at, r.decided_at, r.decided_by, r.reason,
        r.review_weight, r.merge_weight
    from match_reviews r
    left join deduped_leads d on d.lead_id = r.lead_id
    left join deduped_leads e on e.lead_id = r.other_lead_id
"""

_ORDERS = {
    ReviewOrder.WEIGHT: "r.match_weight desc, r.review_id",
    ReviewOrder.AGE: "r.opened_at, r.review_id",
}

# Whether a cannot-link has one side in each of two contacts, and whether a link names the very pair.
_KEPT_APART = """exists (
    select from identity_links l
    join identity_link_leads one on one.link_id = l.link_id
    join deduped_leads x on x.lead_id = one.lead_id and x.contact_id = d.contact_id
    join identity_link_leads two on two.link_id = l.link_id and two.side <> one.side
    join deduped_leads y on y.lead_id = two.lead_id and y.contact_id = e.contact_id
    where l.tenant = r.tenant and l.kind = 'cannot' and l.withdrawn_at is null
)"""
_PAIR_LINKED = """exists (
    select from identity_link_leads one
    join identity_link_leads two on two.link_id = one.link_id and two.side <> one.side
    join identity_links l on l.link_id = one.link_id
    where one.lead_id = r.lead_id and two.lead_id = r.other_lead_id and l.kind = '{kind}' and l.withdrawn_at is null
)"""

# What each review is by the leads and links of now. Decided ones follow the persons' later word, as labels they must
# be true; open ones are closed once there is nothing to ask; closed ones are asked again if there is.
_FOLLOW = f"""
    with standing as (
        select r.review_id, r.state,
            d.contact_id = e.contact_id as together,
            d.contact_id is null or e.contact_id is null as gone,
            {_KEPT_APART} as kept_apart,
            {_PAIR_LINKED.format(kind="must")} as called_same,
            {_PAIR_LINKED.format(kind="cannot")} as called_different
        from match_reviews r
        left join deduped_leads d on d.lead_id = r.lead_id
        left join deduped_leads e on e.lead_id = r.other_lead_id
        where r.tenant = :tenant and {{which}}
    ), becomes as (
        select review_id, case
            when gone then case when state = 'open' then 'closed' else state end
            when together and (state = 'accepted' or (state = 'rejected' and called_same)) then 'accepted'
            when together then 'closed'
            when state in ('accepted', 'rejected') and called_different then 'rejected'
            when kept_apart then 'closed'
            else 'open' end as state, state as before
        from standing
    )
    update match_reviews r set
        state = b.state,
        decided_at = case when b.state = 'open' then null else cast(:now as timestamptz) end,
        decided_by = case when b.state in ('accepted', 'rejected') then cast(:actor as text) end,
        reason = null
    from becomes b where r.review_id = b.review_id and b.state <> b.before
"""  # noqa: S608 - text of this module

_FOLLOW_LEADS = sa.text(
    _FOLLOW.format(
        which="r.review_id in (select review_id from match_reviews where lead_id = any(cast(:leads as uuid[])) "
        "union select review_id from match_reviews where other_lead_id = any(cast(:leads as uuid[])))"
    )
)
_FOLLOW_OPEN = sa.text(_FOLLOW.format(which="r.state = 'open'"))

_DECIDE = sa.text(
    """
    update match_reviews set state = :state, decided_at = :now, decided_by = :actor, reason = :reason
    where review_id = :review_id
    """
)

# Reviews, and links between two single leads that a person made; of both about one pair, the later holds.
_LABELS = sa.text(
    """
    select distinct on (lead_id, other_lead_id) lead_id, other_lead_id, same
    from (
        select least(lead_id, other_lead_id) as lead_id, greatest(lead_id, other_lead_id) as other_lead_id,
            state = 'accepted' as same, decided_at
        from match_reviews where tenant = :tenant and state in ('accepted', 'rejected')
        union all
        select least(one.lead_id, two.lead_id), greatest(one.lead_id, two.lead_id), l.kind = 'must', l.made_at
        from identity_links l
        join identity_link_leads one on one.link_id = l.link_id and one.side = 0
        join identity_link_leads two on two.link_id = l.link_id and two.side = 1
        where l.tenant = :tenant and l.withdrawn_at is null and l.actor like 'person:%'
            and (select count(*) from identity_link_leads m where m.link_id = l.link_id) = 2
    ) said
    order by lead_id, other_lead_id, decided_at desc
    """
)


def find_reviews(
    connection: sa.Connection, wanted: ReviewFilter, *, order: ReviewOrder, limit: int
) -> list[MatchReview]:
    """Reviews by weight, heaviest first, or by age, oldest first."""
    conditions, given = _conditions(wanted)
    statement = f"{_SELECT} where {conditions} order by {_ORDERS[order]} limit :limit"
    rows = connection.execute(sa.text(statement), {**given, "limit": limit}).mappings()
    return [_review(dict(row)) for row in rows]


def count_reviews(connection: sa.Connection, wanted: ReviewFilter) -> int:
    conditions, given = _conditions(wanted)
    found = connection.execute(
        sa.text(f"select count(*) from match_reviews r where {conditions}"),  # noqa: S608 - text of this module
        given,
    )
    return int(found.scalar_one())


def get_review(connection: sa.Connection, review_id: UUID) -> MatchReview | None:
    row = connection.execute(sa.text(f"{_SELECT} where r.review_id = :id"), {"id": review_id}).mappings().one_or_none()
    return None if row is None else _review(dict(row))


def reviews_between(
    connection: sa.Connection, contact: ContactId, other: ContactId, leads: tuple[LeadId, LeadId]
) -> list[MatchReview]:
    """The reviews that ask, or asked, about these two leads, and the open ones about their contacts."""
    statement = f"""{_SELECT}
        where (r.lead_id = any(:leads) and r.other_lead_id = any(:leads))
           or (r.state = 'open' and d.contact_id <> e.contact_id
               and d.contact_id = any(:contacts) and e.contact_id = any(:contacts))
        order by r.opened_at, r.review_id"""
    rows = connection.execute(sa.text(statement), {"leads": list(leads), "contacts": [contact, other]}).mappings()
    return [_review(dict(row)) for row in rows]


def decide_review(
    connection: sa.Connection, review_id: UUID, state: ReviewState, *, actor: str, reason: str | None, now: datetime
) -> None:
    """Write what a person said."""
    given = {"review_id": review_id, "state": state, "actor": actor, "reason": reason, "now": now}
    connection.execute(_DECIDE, given)


def follow(connection: sa.Connection, tenant: str, leads: Iterable[LeadId], *, actor: str, now: datetime) -> int:
    """Let the reviews about these leads say what holds after a decision; says how many changed."""
    given = {"tenant": tenant, "leads": uuid_array(leads), "actor": actor, "now": now}
    return connection.execute(_FOLLOW_LEADS, given).rowcount


def close_answered(connection: sa.Connection, tenant: str, *, now: datetime) -> int:
    """Close the open reviews whose pair came together, or is kept apart by now; says how many."""
    return connection.execute(_FOLLOW_OPEN, {"tenant": tenant, "actor": None, "now": now}).rowcount


def labels(connection: sa.Connection, tenant: str) -> list[Label]:
    """What persons have said of pairs of leads, older lead first, and not taken back."""
    rows = connection.execute(_LABELS, {"tenant": tenant})
    return [Label(LeadId(row.lead_id), LeadId(row.other_lead_id), row.same) for row in rows]


def tenants_with_open_reviews(connection: sa.Connection) -> list[str]:
    rows = connection.execute(sa.text("select distinct tenant from match_reviews where state = 'open' order by tenant"))
    return [row.tenant for row in rows]


def _conditions(wanted: ReviewFilter) -> tuple[str, dict[str, object]]:
    conditions: dict[str, object] = {
        "r.tenant = :tenant": wanted.tenant,
        "r.cause = :cause": wanted.cause,
        "r.state = :state": wanted.state,
        "r.match_weight >= :min_weight": wanted.min_weight,
        "r.match_weight < :max_weight": wanted.max_weight,
    }
    used = {text: value for text, value in conditions.items() if value is not None}
    given = {text.rpartition(":")[2]: value for text, value in used.items()}
    return " and ".join(used) or "true", given


def _review(row: Mapping[str, Any]) -> MatchReview:
    review_weight, merge_weight = row["review_weight"], row["merge_weight"]
    values = {name: value for name, value in row.items() if name not in ("review_weight", "merge_weight")}
    values |= {"cause": ReviewCause(row["cause"]), "state": ReviewState(row["state"])}
    return MatchReview(**values, cut_offs=None if merge_weight is None else (review_weight, merge_weight))
