"""What became of leads after delivery: how many of which kind, of which source, and the rates that follow from them.

The door writes outcomes with whatever id it was told, since it may not look one up. Here they are matched, by index: an
outcome of a lead to that lead; one of a contact to every lead of the contact, or of the one that it was merged into;
the others are *unmatched*. Rates are of a cohort: of the leads that came since an instant and belong to a contact, how
many were told of. A cohort's rate is never above one, and an old customer's bounce does not blame today's leads. Where
nobody tells, there is no rate: silence is not a rate of 0.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from leads_pipeline.domain.ids import first_uuid7_at
from leads_pipeline.domain.outcomes import BOUNCES, MAILED, OPPORTUNITIES, OutcomeKind

# Who told anything of the kind within this time before now still does, also where there was nothing to tell lately.
TELLS_FOR = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class OutcomeCount:
    """How many outcomes of a kind a tenant was told, and how many of them name nothing that we know."""

    tenant: str
    kind: OutcomeKind
    outcomes: int
    unmatched: int
    amount: float | None


@dataclass(frozen=True, slots=True)
class OutcomeRate:
    """Of a tenant's leads of a cohort, how many were told of with one of some kinds."""

    tenant: str
    leads: int
    told: int

    @property
    def value(self) -> float:
        """The share; there is a rate only where there are leads."""
        return self.told / self.leads


@dataclass(frozen=True, slots=True)
class SourceOutcomes:
    """What a source's leads of a cohort came to."""

    tenant: str
    source: str
    leads: int
    by_kind: dict[OutcomeKind, int]


# Only the outcomes of the window are matched: each by one look-up, whatever else there is. The kinds are named so that
# the index serves, whose second column they are.
_COUNTS = sa.text(
    """
    select o.tenant, o.kind, count(*) as outcomes, sum(o.amount)::float8 as amount,
        count(*) filter (where not coalesce(l.known, c.known, false)) as unmatched
    from outcomes o
    left join lateral (
        select true as known from raw_leads r where r.lead_id = o.lead_id and r.tenant = o.tenant
    ) l on o.lead_id is not null
    left join lateral (
        select true as known from contacts c where c.contact_id = o.contact_id and c.tenant = o.tenant
    ) c on o.contact_id is not null
    where o.occurred_at >= :since and o.kind = any(:kinds) and (cast(:tenant as text) is null or o.tenant = :tenant)
    group by 1, 2 order by 1, 2
    """
)

# An outcome may be of a time after the window's beginning only, as its lead is: so the outcomes since then suffice. In
# a statement of its own and not correlated: for each lead it would be two look-ups, for each outcome it is one.
_TOLD = """
    told as (
        select distinct d.lead_id, o.kind
        from outcomes o join deduped_leads d on d.lead_id = o.lead_id and d.tenant = o.tenant
        where o.occurred_at >= :since and o.kind = any(:kinds) and d.lead_id >= :first
        union
        select distinct d.lead_id, o.kind
        from outcomes o
        join contacts c on c.contact_id = o.contact_id and c.tenant = o.tenant
        join deduped_leads d on d.contact_id = coalesce(c.merged_into, c.contact_id)
        where o.occurred_at >= :since and o.kind = any(:kinds) and d.lead_id >= :first
    )
"""
# Several cohorts at once: the leads since the earliest instant, and of them those since each.
_RATES = f"""
    with {_TOLD}, leads_told as (select distinct lead_id from told),
    telling as (
        select distinct tenant from outcomes where kind = any(:telling_kinds) and occurred_at >= :telling_since
    )
    select d.tenant, {{cohorts}}
    from deduped_leads d join telling using (tenant) left join leads_told t using (lead_id)
    where d.lead_id >= :first
    group by d.tenant order by d.tenant
"""  # noqa: S608 - no value is spliced in
_SOURCES = sa.text(
    f"""
    with {_TOLD}
    select r.tenant, r.source, count(distinct r.lead_id) as leads, t.kind, count(t.lead_id) as told
    from deduped_leads d join raw_leads r using (lead_id) left join told t using (lead_id)
    where d.lead_id >= :first and r.lead_id >= :first
    group by grouping sets ((r.tenant, r.source), (r.tenant, r.source, t.kind))
    order by r.tenant, r.source
    """  # noqa: S608 - no value is spliced in
)


def outcome_counts(connection: sa.Connection, since: datetime, *, tenant: str | None = None) -> list[OutcomeCount]:
    """What was told of the time since ``since``, by tenant and kind."""
    rows = connection.execute(_COUNTS, {"since": since, "kinds": list(OutcomeKind), "tenant": tenant})
    return [OutcomeCount(row.tenant, OutcomeKind(row.kind), row.outcomes, row.unmatched, row.amount) for row in rows]


def bounce_rates(connection: sa.Connection, since: datetime, *, now: datetime) -> list[OutcomeRate]:
    """By tenant of whom bounces are told: of the leads captured since then that have a contact, how many bounced."""
    return bounces_of_cohorts(connection, [since], now=now)[since]


def bounces_of_cohorts(
    connection: sa.Connection, since: Collection[datetime], *, now: datetime
) -> dict[datetime, list[OutcomeRate]]:
    """The same of several cohorts, read once."""
    return _rates(connection, sorted(since), BOUNCES, told_by=MAILED, now=now)


def opportunity_rates(connection: sa.Connection, since: datetime, *, now: datetime) -> list[OutcomeRate]:
    """By tenant of whom deals are told: of the leads since then that have a contact, how many are an opportunity."""
    return _rates(connection, [since], OPPORTUNITIES, told_by=OPPORTUNITIES, now=now)[since]


def outcomes_by_source(connection: sa.Connection, since: datetime) -> list[SourceOutcomes]:
    """By source: the leads captured since then that have a contact, and of how many each kind was told."""
    found: dict[tuple[str, str], SourceOutcomes] = {}
    rows = connection.execute(_SOURCES, _window(since, OutcomeKind)).all()
    for row in sorted(rows, key=lambda row: -row.leads):  # the row of all kinds has the most leads: it comes first
        item = found.setdefault((row.tenant, row.source), SourceOutcomes(row.tenant, row.source, row.leads, {}))
        if row.kind is not None:
            item.by_kind[OutcomeKind(row.kind)] = row.told
    return [found[place] for place in sorted(found)]


def _rates(
    connection: sa.Connection,
    since: Sequence[datetime],
    kinds: Collection[OutcomeKind],
    *,
    told_by: Collection[OutcomeKind],
    now: datetime,
) -> dict[datetime, list[OutcomeRate]]:
    """The cohorts since each of these instants, earliest first. One that has no leads is not told."""
    cohorts = ", ".join(
        f"count(*) filter (where d.lead_id >= :first{n}) as leads{n}, "
        f"count(t.lead_id) filter (where d.lead_id >= :first{n}) as told{n}"
        for n in range(len(since))
    )
    values = {
        **_window(since[0], kinds),
        **{f"first{n}": first_uuid7_at(at) for n, at in enumerate(since)},
        "telling_kinds": list(told_by),
        "telling_since": now - TELLS_FOR,
    }
    rows = connection.execute(sa.text(_RATES.format(cohorts=cohorts)), values).mappings().all()
    return {
        at: [OutcomeRate(row["tenant"], row[f"leads{n}"], row[f"told{n}"]) for row in rows if row[f"leads{n}"]]
        for n, at in enumerate(since)
    }


def _window(since: datetime, kinds: Collection[OutcomeKind]) -> dict[str, object]:
    return {"since": since, "first": first_uuid7_at(since), "kinds": list(kinds)}
