"""Leads of a time window that go through a stage once more: which of them may, and putting them back at its door.

A replay has an id. It stands in ``lead_corrections`` beside each lead that is judged again, which makes it safe to
repeat: what a replay has put back there, the same replay does not put back again. ``replays`` says who replayed which
window, from which stage on, and how far they came. Keep out: its pace (``flows``).
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.ids import first_uuid7_at
from leads_pipeline.domain.stage import Stage

ACTION = "replay"


@dataclass(frozen=True, slots=True)
class Window:
    """Leads that came from ``since`` until before ``until``; of one tenant, or of all (``None``)."""

    since: datetime
    until: datetime
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class PutBack:
    """One portion: leads that were looked at, those of them that were put back, and the last one's id.

    ``last`` is ``None`` when nothing was left to be looked at.
    """

    seen: int
    put_back: int
    last: UUID | None


# Ids are made when a lead comes, in the order of time: a window is a range of the primary key, and of partitions.
_PAGE = """
    select r.lead_id, r.tenant, r.context ->> 'quarantine' is not null as is_set_aside from raw_leads r
    where r.lead_id >= :low and r.lead_id < :high and r.lead_id > :after
        and (cast(:tenant as text) is null or r.tenant = :tenant)
    order by r.lead_id limit :limit
"""
# Not what is taken out, still on its way to its first verdict or set aside by the door; nor what this replay has done.
_MAY = """
    not exists (select from lead_dispositions x where x.lead_id = p.lead_id)
    and not exists (select from lead_fetches x where x.lead_id = p.lead_id)
    and not exists (select from pending x where x.stage = 'validated_leads' and x.subject_id = p.lead_id)
    and (
        exists (select from validated_leads x where x.lead_id = p.lead_id)
        or exists (select from rejected_leads x where x.lead_id = p.lead_id)
    )
    and (
        not p.is_set_aside
        or exists (select from lead_corrections x where x.lead_id = p.lead_id and x.release)
    )
    and not exists (
        select from lead_corrections x where x.lead_id = p.lead_id and x.action = 'replay' and x.reason = :replay
    )
"""
_TO_VALIDATION = sa.text(
    f"""
    with page as materialized ({_PAGE} for update),
    chosen as materialized (
        select p.lead_id, p.tenant, 1 + greatest(
            (select max(revision) from validated_leads x where x.lead_id = p.lead_id),
            (select max(revision) from rejected_leads x where x.lead_id = p.lead_id),
            (select max(revision) from lead_corrections x where x.lead_id = p.lead_id)
        ) as revision
        from page p where {_MAY}
    ),
    noted as (
        insert into lead_corrections (lead_id, revision, tenant, action, fields, release, actor, reason, corrected_at)
        select lead_id, revision, tenant, '{ACTION}', '{{}}', false, :actor, :replay, :now from chosen
    ),
    queued as (
        insert into pending (stage, subject_id, tenant, lane, revision, since, due_at)
        select 'validated_leads', lead_id, tenant, 'batch', revision, :now, :now from chosen order by lead_id
        on conflict (stage, subject_id) do nothing
    )
    select count(*) as seen, (select count(*) from chosen) as put_back,
        (select lead_id from page order by lead_id desc limit 1) as last
    from page
    """  # noqa: S608 - text of this module
).columns(last=sa.Uuid())
# A contact is refreshed from all its leads: once for those of them that came in the window.
_TO_GOLDEN = sa.text(
    f"""
    with page as materialized ({_PAGE}),
    chosen as materialized (
        select distinct d.contact_id, p.tenant from page p join deduped_leads d on d.lead_id = p.lead_id
    ),
    queued as (
        insert into pending (stage, subject_id, tenant, lane, revision, since, due_at)
        select 'golden_contacts', contact_id, tenant, 'batch', 1, :now, :now from chosen order by contact_id
        on conflict (stage, subject_id) do nothing
        returning 1
    )
    select count(*) as seen, (select count(*) from queued) as put_back,
        (select lead_id from page order by lead_id desc limit 1) as last
    from page
    """  # noqa: S608 - text of this module
).columns(last=sa.Uuid())
_COUNT_TO_VALIDATION = sa.text(
    f"""
    with page as materialized ({_PAGE})
    select count(*) as seen, count(*) filter (where {_MAY}) as put_back,
        (select lead_id from page order by lead_id desc limit 1) as last
    from page p
    """  # noqa: S608 - text of this module
).columns(last=sa.Uuid())
_COUNT_TO_GOLDEN = sa.text(
    f"""
    with page as materialized ({_PAGE})
    select count(*) as seen, count(distinct d.contact_id) as put_back,
        (select lead_id from page order by lead_id desc limit 1) as last
    from page p left join deduped_leads d on d.lead_id = p.lead_id
    """  # noqa: S608 - text of this module
).columns(last=sa.Uuid())


_NOTE = sa.text(
    """
    insert into replays as r (replay, actor, stage, tenant, since, until, put_back, came_to, began_at, ended_at)
    values (:replay, :actor, :stage, :tenant, :since, :until, :put_back, :came_to, :now, :ended_at)
    on conflict (replay, actor) do update set
        put_back = r.put_back + excluded.put_back, came_to = greatest(r.came_to, excluded.came_to),
        ended_at = excluded.ended_at
    """
).bindparams(sa.bindparam("came_to", type_=sa.Uuid()))
# Leads of a contact that this replay has found to be rejected now.
_REJECTED_NOW = sa.text(
    """
    select count(*) from lead_corrections c
    where c.lead_id > :after and c.lead_id <= :last and c.action = 'replay' and c.reason = :replay
        and exists (select from rejected_leads x where x.lead_id = c.lead_id and x.revision = c.revision)
        and exists (select from deduped_leads x where x.lead_id = c.lead_id)
    """
)


def put_back(
    connection: sa.Connection,
    window: Window,
    *,
    stage: Stage,
    replay: str,
    actor: str,
    after: UUID | None,
    limit: int,
    now: datetime,
    dry_run: bool = False,
) -> PutBack:
    """Put one portion of a window's leads at the door of validated_leads, or their contacts at golden_contacts'.

    In the order of their ids from the one behind ``after``, and written down with it. Locks the leads, as whoever
    corrects one does.
    """
    low = first_uuid7_at(window.since)
    to_golden = stage is Stage.GOLDEN_CONTACTS
    if dry_run:
        statement = _COUNT_TO_GOLDEN if to_golden else _COUNT_TO_VALIDATION
    else:
        statement = _TO_GOLDEN if to_golden else _TO_VALIDATION
    row = connection.execute(
        statement,
        {
            "low": low,
            "high": first_uuid7_at(window.until),
            "after": after or UUID(int=low.int - 1),
            "tenant": window.tenant,
            "limit": limit,
            "replay": replay,
            "actor": actor,
            "now": now,
        },
    ).one()
    portion = PutBack(row.seen, row.put_back, row.last if row.seen else None)
    if not dry_run:
        about = {"stage": stage, "tenant": window.tenant, "since": window.since, "until": window.until}
        came = {"put_back": portion.put_back, "came_to": portion.last, "ended_at": None if portion.last else now}
        connection.execute(_NOTE, {"replay": replay, "actor": actor, "now": now, **about, **came})
    return portion


def rejected_now(connection: sa.Connection, *, replay: str, after: UUID | None, last: UUID) -> int:
    """How many leads of a contact, from the one behind ``after`` to ``last``, a replay has found to be rejected now.

    Their contacts stay as they were: with what an earlier revision said.
    """
    found: int = connection.execute(
        _REJECTED_NOW, {"replay": replay, "after": after or UUID(int=0), "last": last}
    ).scalar_one()
    return found
