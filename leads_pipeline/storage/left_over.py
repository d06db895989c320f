"""What waits for a destination that leads.yaml no longer gives to its tenant: nobody delivers it, nobody else says so.

Keep out: destinations that were added (``destination_doors``).
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from leads_pipeline.domain.stage import ALL_LANES
from leads_pipeline.storage.destination_doors import Door


@dataclass(frozen=True, slots=True)
class LeftOver:
    """What waits of one tenant for a destination. ``removals``: records that are to be archived or erased there."""

    tenant: str
    destination: str
    contacts: int
    removals: int


_OPEN = "state in ('waiting', 'in_flight')"

# From queue to queue by the index: its cost depends on how many there are.
_PLACES = sa.text(
    f"""
    with recursive place as (
        (
            select destination, lane, tenant from outbox where {_OPEN}
            order by destination, lane, tenant limit 1
        )
        union all
        select beyond.* from place cross join lateral (
            select o.destination, o.lane, o.tenant from outbox o
            where o.{_OPEN} and (o.destination, o.lane, o.tenant) > (place.destination, place.lane, place.tenant)
            order by o.destination, o.lane, o.tenant limit 1
        ) beyond
    )
    select distinct tenant, destination from place order by destination, tenant
    """  # noqa: S608 - no value is spliced in
)
_COUNT = sa.text(
    f"""
    select count(*) filter (where operation = 'upsert') as contacts,
        count(*) filter (where operation <> 'upsert') as removals
    from outbox
    where destination = :destination and lane = any(:lanes) and tenant = :tenant and {_OPEN}
    """  # noqa: S608 - no value is spliced in
)
_CANCEL = sa.text(
    f"""
    with chosen as materialized (
        select outbox_id from outbox
        where destination = :destination and lane = any(:lanes) and tenant = :tenant and {_OPEN}
            and operation = 'upsert' and (claimed_until is null or claimed_until <= :now)
        limit :most
        for update skip locked
    )
    update outbox o set state = 'cancelled', claimed_by = null, claimed_until = null, claim_owner = null,
        updated_at = :now
    from chosen where o.outbox_id = chosen.outbox_id
    """  # noqa: S608 - no value is spliced in
)


def left_over(connection: sa.Connection, doors: Collection[Door]) -> list[LeftOver]:
    """What waits for other than these ``doors`` (tenant, destination)."""
    found = []
    for row in connection.execute(_PLACES).all():
        if (row.tenant, row.destination) not in doors:
            counts = connection.execute(_COUNT, _values(row.tenant, row.destination)).one()
            found.append(LeftOver(row.tenant, row.destination, counts.contacts, counts.removals))
    return found


def cancel_left_over(connection: sa.Connection, tenant: str, destination: str, *, most: int, now: datetime) -> int:
    """Want up to ``most`` of the tenant's contacts there no more; how many. Removals stay: the records may be there."""
    return connection.execute(_CANCEL, {**_values(tenant, destination), "most": most, "now": now}).rowcount


def _values(tenant: str, destination: str) -> dict[str, object]:
    return {"tenant": tenant, "destination": destination, "lanes": [str(lane) for lane in ALL_LANES]}
