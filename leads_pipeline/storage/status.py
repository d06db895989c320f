"""What the one screen shows of deliveries and of the CRM accounts; queues are in ``storage.measurements``."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa


@dataclass(frozen=True, slots=True)
class AccountUse:
    """What a CRM account's limiter remembers."""

    account: str
    endpoint_class: str
    paused_until: datetime | None
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Delivery:
    """How many contacts of a destination are in a state. ``state``: of an archive, ``archived`` or ``… to archive``."""

    destination: str
    state: str
    contacts: int


def deliveries(connection: sa.Connection) -> list[Delivery]:
    """The outbox by destination and state. What a CRM was told to take away is no contact that it has."""
    rows = connection.execute(
        sa.text(
            """
            select destination,
                case when operation <> 'archive' then state
                    when state = 'delivered' then 'archived'
                    else state || ', to archive' end as state,
                count(*) as contacts
            from outbox group by 1, 2 order by 1, 2
            """
        )
    )
    return [Delivery(row.destination, row.state, row.contacts) for row in rows]


def requests_since(connection: sa.Connection, since: datetime) -> list[tuple[str, int, int]]:
    """Per account: requests sent since an instant, and those refused for a limit of the vendor's."""
    rows = connection.execute(
        sa.text(
            "select account, count(*) as requests, count(*) filter (where throttled) as throttled "
            "from crm_sync_batches where sent_at >= :since group by account order by account"
        ),
        {"since": since},
    )
    return [(row.account, row.requests, row.throttled) for row in rows]


def accounts(connection: sa.Connection) -> list[AccountUse]:
    """What the limiters remember."""
    rows = connection.execute(
        sa.text(
            "select account, endpoint_class, paused_until, updated_at from rate_limits order by account, endpoint_class"
        )
    )
    return [AccountUse(r.account, r.endpoint_class, r.paused_until, r.updated_at) for r in rows]


def captured_since(connection: sa.Connection, since: datetime) -> dict[tuple[str, str], int]:
    """Leads captured since an instant, by tenant and source."""
    rows = connection.execute(
        sa.text(
            "select tenant, source, sum(captured)::bigint as captured from capture_batches "
            "where committed_at >= :since group by tenant, source"
        ),
        {"since": since},
    )
    return {(row.tenant, row.source): row.captured for row in rows}
