"""How far each tenant's destinations have been filled with the contacts that were there before them.

All that is left is filled in one walk over the contacts, however many tenants and destinations wait for it. The doors
of a walk are locked for its page, so that two processes do not walk at once; a page is one transaction with how far it
came.
"""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from leads_pipeline.storage.schema import destination_doors

# A tenant and one of its destinations.
Door = tuple[str, str]


@dataclass(frozen=True, slots=True)
class FilledPage:
    """One page of the walk: contacts that were looked at, rows that are wanted now; ``done``: it was the last."""

    contacts: int
    wanted: int
    done: bool


_GIVEN = "jsonb_to_recordset(cast(:doors as jsonb)) as d(tenant text, destination text)"

_KNOW = sa.text(
    f"insert into destination_doors (tenant, destination) select tenant, destination from {_GIVEN} "  # noqa: S608 - ours
    "order by tenant, destination on conflict do nothing"
)

# Whoever takes a destination out of leads.yaml and puts it back later must have it filled again.
_FORGET = sa.text(
    f"delete from destination_doors o where not exists "  # noqa: S608 - no value is spliced in
    f"(select from {_GIVEN} where d.tenant = o.tenant and d.destination = o.destination)"
)

_TO_FILL = sa.text(
    f"select o.tenant, o.destination, o.filled_after from destination_doors o "  # noqa: S608 - no value is spliced in
    f"join {_GIVEN} on d.tenant = o.tenant and d.destination = o.destination "
    "where o.filled_at is null order by o.tenant, o.destination for update of o skip locked"
)

# Rows of the outbox are made in the order of the other statements that make them, so that no two can deadlock.
_PAGE = sa.text(
    f"""
    with page as materialized (
        select tenant, contact_id, version from golden_contacts
        where tenant = any(:tenants) and (cast(:after as uuid) is null or contact_id > :after)
        order by contact_id
        limit :limit
    ),
    made as (
        insert into outbox (
            tenant, contact_id, destination, operation, state, lane, wanted_version, waiting_since, due_at, attempts,
            news_after_version, updated_at
        )
        select page.tenant, page.contact_id, d.destination, 'upsert', 'waiting', 'batch', page.version, :now, :now, 0,
            page.version, :now
        from page join {_GIVEN} on d.tenant = page.tenant
        order by page.contact_id, d.destination
        on conflict (contact_id, destination) do nothing
        returning outbox_id
    )
    select (select count(*) from page) as contacts, (select count(*) from made) as wanted,
        (select contact_id from page order by contact_id desc limit 1) as last
    """  # noqa: S608 - no value is spliced in
)

_ANYTHING = sa.text(
    f"""
    select exists (
        select from {_GIVEN}
        left join destination_doors o on o.tenant = d.tenant and o.destination = d.destination
        where o.filled_at is null and exists (select from golden_contacts g where g.tenant = d.tenant)
    )
    """  # noqa: S608 - no value is spliced in
)

_CAME_TO = sa.text(
    f"""
    update destination_doors o set
        filled_after = coalesce(:last, o.filled_after),
        filled_at = case when :done then cast(:now as timestamptz) end
    from {_GIVEN} where d.tenant = o.tenant and d.destination = o.destination
    """  # noqa: S608 - no value is spliced in
)


def know_doors(connection: sa.Connection, doors: Collection[Door]) -> bool:
    """Keep a row for each of these doors, all that there are, and for no other; whether one is still to be filled."""
    rows = connection.execute(sa.select(destination_doors)).all()
    known = {(row.tenant, row.destination) for row in rows}
    if known - set(doors):
        connection.execute(_FORGET, {"doors": _as_json(doors)})
    if new := set(doors) - known:
        connection.execute(_KNOW, {"doors": _as_json(new)})
        return True
    return any(row.filled_at is None for row in rows if (row.tenant, row.destination) in doors)


def anything_to_fill(connection: sa.Connection, doors: Collection[Door]) -> bool:
    """Whether one of these doors is not filled yet and its tenant has contacts."""
    return bool(connection.execute(_ANYTHING, {"doors": _as_json(doors)}).scalar_one())


def fill_again(connection: sa.Connection, doors: Iterable[Door]) -> None:
    """Have these doors filled from the first contact on; what is in the outbox already stays as it is."""
    for tenant, destination in sorted(doors):
        connection.execute(
            destination_doors.update()
            .where(destination_doors.c.tenant == tenant, destination_doors.c.destination == destination)
            .values(filled_after=None, filled_at=None)
        )


def fill_page(connection: sa.Connection, doors: Collection[Door], *, limit: int, now: datetime) -> FilledPage | None:
    """Want up to ``limit`` contacts at those of ``doors`` that are to be filled; ``None`` if somebody else is at it."""
    rows = connection.execute(_TO_FILL, {"doors": _as_json(doors)}).all()
    if not rows:
        return None
    open_doors = [(row.tenant, row.destination) for row in rows]
    reached = [row.filled_after for row in rows]
    given = {"doors": _as_json(open_doors), "now": now}
    after = None if None in reached else min(reached)
    page = connection.execute(
        _PAGE, {**given, "tenants": sorted({tenant for tenant, _ in open_doors}), "after": after, "limit": limit}
    ).one()
    done = page.contacts < limit
    connection.execute(_CAME_TO, {**given, "last": page.last, "done": done})
    return FilledPage(page.contacts, page.wanted, done)


def unfilled_doors(connection: sa.Connection) -> set[Door]:
    """Doors that are still being filled."""
    rows = connection.execute(sa.select(destination_doors).where(destination_doors.c.filled_at.is_(None)))
    return {(row.tenant, row.destination) for row in rows}


def _as_json(doors: Iterable[Door]) -> str:
    return json.dumps([{"tenant": tenant, "destination": destination} for tenant, destination in sorted(doors)])
