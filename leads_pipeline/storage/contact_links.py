"""Links between leads: what persons and undos decided for good. The caller holds ``identity.lock_identity``."""

import json
from collections.abc import Collection, Iterable
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.identity_log import Link, LinkKind
from leads_pipeline.domain.ids import LeadId
from leads_pipeline.storage.golden import uuid_array

_INSERT_LINK = sa.text(
    """
    insert into identity_links (link_id, tenant, kind, actor, reason, merge_id, made_at)
    values (:link_id, :tenant, :kind, :actor, :reason, :merge_id, :now)
    """
)

_INSERT_LEADS = sa.text(
    """
    insert into identity_link_leads (link_id, lead_id, tenant, side)
    select :link_id, t.lead_id, :tenant, t.side
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(lead_id uuid, side integer)
    """
)

_OF_LEADS = sa.text(
    """
    select l.link_id, l.kind, l.merge_id, l.actor, m.lead_id, m.side
    from identity_links l join identity_link_leads m using (link_id)
    where l.tenant = :tenant and l.withdrawn_at is null and l.link_id in (
        select link_id from identity_link_leads where lead_id = any(cast(:leads as uuid[]))
    )
    order by l.made_at, l.link_id, m.lead_id
    """
)

_OF_IDS = sa.text(
    """
    select l.link_id, l.kind, l.merge_id, l.actor, m.lead_id, m.side
    from identity_links l join identity_link_leads m using (link_id)
    where l.tenant = :tenant and l.link_id = any(cast(:links as uuid[]))
    order by l.made_at, l.link_id, m.lead_id
    """
)

_WITHDRAW = sa.text(
    """
    update identity_links set withdrawn_at = :now, withdrawn_by = :actor
    where tenant = :tenant and link_id = any(cast(:links as uuid[])) and withdrawn_at is null
    returning link_id
    """
)

_RESTORE = sa.text(
    """
    update identity_links set withdrawn_at = null, withdrawn_by = null
    where tenant = :tenant and link_id = any(cast(:links as uuid[])) and withdrawn_at is not null
    returning link_id
    """
)


def links_of(connection: sa.Connection, tenant: str, leads: Iterable[LeadId]) -> list[Link]:
    """The links in force that name one of these leads, oldest first."""
    return _links(connection.execute(_OF_LEADS, {"tenant": tenant, "leads": uuid_array(leads)}))


def links_by_id(connection: sa.Connection, tenant: str, links: Iterable[UUID]) -> list[Link]:
    """These links, in force or withdrawn, oldest first."""
    return _links(connection.execute(_OF_IDS, {"tenant": tenant, "links": uuid_array(links)}))


def make_link(connection: sa.Connection, tenant: str, link: Link, *, reason: str | None, now: datetime) -> None:
    """Put a link in force."""
    about = {"link_id": link.link_id, "tenant": tenant}
    connection.execute(
        _INSERT_LINK,
        {
            **about,
            "kind": LinkKind(link.kind),
            "actor": link.actor,
            "reason": reason,
            "merge_id": link.merge_id,
            "now": now,
        },
    )
    rows = [{"lead_id": str(lead), "side": number} for number, side in enumerate(link.sides) for lead in sorted(side)]
    connection.execute(_INSERT_LEADS, {**about, "rows": json.dumps(rows)})


def withdraw_links(
    connection: sa.Connection, tenant: str, links: Collection[UUID], *, actor: str, now: datetime
) -> tuple[UUID, ...]:
    """Take links out of force; those that were in force are answered."""
    if not links:
        return ()
    rows = connection.execute(_WITHDRAW, {"tenant": tenant, "links": uuid_array(links), "actor": actor, "now": now})
    return tuple(sorted(row.link_id for row in rows))


def restore_links(connection: sa.Connection, tenant: str, links: Collection[UUID]) -> tuple[UUID, ...]:
    """Put withdrawn links in force again; those that were withdrawn are answered."""
    if not links:
        return ()
    rows = connection.execute(_RESTORE, {"tenant": tenant, "links": uuid_array(links)})
    return tuple(sorted(row.link_id for row in rows))


def _links(rows: Iterable[sa.Row[tuple[object, ...]]]) -> list[Link]:
    found: dict[UUID, tuple[sa.Row[tuple[object, ...]], tuple[set[LeadId], set[LeadId]]]] = {}
    for row in rows:
        _first, sides = found.setdefault(row.link_id, (row, (set(), set())))
        sides[row.side].add(LeadId(row.lead_id))
    return [
        Link(link_id, LinkKind(row.kind), (frozenset(sides[0]), frozenset(sides[1])), row.merge_id, row.actor)
        for link_id, (row, sides) in found.items()
    ]
