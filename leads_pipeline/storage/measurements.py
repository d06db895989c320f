"""The numbers behind the asset checks, the sensor and the status screen: how much waits, since when, what went wrong.

Each function is one statement that an index or one pass over a table answers. Add a measurement here and its limit in
``config.SloSettings``. Keep out: verdicts (``defs.checks``) and the law of conservation (``storage.conservation``).
Nothing here returns personal data.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from leads_pipeline.domain.stage import Lane, Stage
from leads_pipeline.storage.pending import anything_due
from leads_pipeline.storage.schema import SCHEMA


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits in front of one stage, for one tenant and lane. For deliveries: contacts, not leads."""

    stage: Stage
    tenant: str
    lane: Lane
    waiting: int
    oldest_since: datetime

    def oldest_seconds(self, now: datetime) -> float:
        """How long the oldest has waited in front of this stage."""
        return max(0.0, (now - self.oldest_since).total_seconds())


@dataclass(frozen=True, slots=True)
class Judged:
    """What validation said about one source's leads within a window."""

    tenant: str
    source: str
    leads: int
    rejected: int

    @property
    def rejection_rate(self) -> float:
        return self.rejected / self.leads if self.leads else 0.0


@dataclass(frozen=True, slots=True)
class DuplicateEmails:
    """Addresses that more than one golden contact of a tenant holds."""

    tenant: str
    emails: int
    contacts: int


@dataclass(frozen=True, slots=True)
class Settled:
    """Contacts of one tenant whose delivery to one destination came to an end within a window."""

    tenant: str
    destination: str
    delivered: int
    dead: int

    @property
    def success_rate(self) -> float:
        settled = self.delivered + self.dead
        return self.delivered / settled if settled else 1.0


_INTAKE = """
    select 'raw_leads' as stage, tenant, lane, count(*) as waiting, min(since) as oldest_since
    from (
        select tenant, lane, received_at as since from buffer
        union all
        select tenant, lane, since from lead_fetches  -- moved, and still to be asked for
    ) as intake
    group by tenant, lane
"""
_PENDING = """
    select stage, tenant, lane, count(*) as waiting, min(since) as oldest_since from pending
    where stage = any(:stages) group by stage, tenant, lane
"""
_OPEN_DELIVERIES = """
    select 'crm_sync_batches' as stage, tenant, lane, count(*) as waiting, min(waiting_since) as oldest_since
    from outbox where state in ('waiting', 'in_flight') group by tenant, lane
"""

# The first verdict alone is about what the source sent: what people corrected, or had judged again, is not its news.
_JUDGED = sa.text(
    """
    select tenant, source, count(*) as leads, count(*) filter (where rejected) as rejected
    from (
        select tenant, source, false as rejected from validated_leads where validated_at >= :since and revision = 1
        union all
        select tenant, source, true from rejected_leads where rejected_at >= :since and revision = 1
    ) as verdicts
    group by tenant, source
    order by tenant, source
    """
)

# While this index is in force, PostgreSQL lets no two contacts of a tenant hold one address; asking it costs the same
# however many contacts there are. Comparing them all is left for when the index is gone, or was left half built.
_ADDRESSES_ARE_UNIQUE = sa.text(
    """
    select exists (
        select from pg_index
        where indexrelid = to_regclass(:index) and indisunique and indisvalid and indisready and indislive
    )
    """
)

_DUPLICATE_EMAILS = sa.text(
    """
    select tenant, count(*) as emails, sum(contacts)::bigint as contacts
    from (
        select tenant, lower(email) as address, count(*) as contacts
        from golden_contacts where email_key is not null
        group by tenant, lower(email) having count(*) > 1
    ) as shared
    group by tenant
    order by tenant
    """
)

# A contact that died and was delivered after all counts as delivered, and only once.
_SETTLED = sa.text(
    """
    select tenant, destination, count(*) filter (where not dead) as delivered, count(*) filter (where dead) as dead
    from (
        select tenant, destination, false as dead from outbox where delivered_at >= :since and state <> 'dead'
        union all
        select tenant, destination, true from outbox where state = 'dead' and updated_at >= :since
    ) as ended
    group by tenant, destination
    order by tenant, destination
    """
)

# Each `exists` stops at the first row that an index names, so that a sensor can afford to ask twice a second.
_DUE = sa.text(
    f"""
    select 'raw_leads' as stage
    where exists (select from buffer where tenant = any(:tenants) and lane = any(:lanes))
        or exists (
            select from lead_fetches where tenant = any(:tenants) and lane = any(:lanes) and due_at <= :now
        )
    union all
    select stage from unnest(cast(:stages as text[])) as stage
    where exists (
        select from unnest(cast(:tenants as text[])) as served_tenant(tenant)
        where {anything_due(stage="stage.stage", tenant="served_tenant.tenant")}
    )
    union all
    select 'crm_sync_batches'
    where exists (
        select from jsonb_to_recordset(cast(:doors as jsonb)) as door(tenant text, destination text, lane text)
        cross join lateral (
            select from outbox o
            where o.destination = door.destination and o.tenant = door.tenant and o.lane = door.lane
                and o.due_at <= :now and o.state in ('waiting', 'in_flight')
                and (o.claimed_until is null or o.claimed_until <= :now)
            order by o.due_at  -- by the index: for any one row the planner would read the table until it meets one
            limit 1
        ) first
    )
    """  # noqa: S608 - text of this package
)


def queues(connection: sa.Connection, stages: Sequence[Stage] = tuple(Stage)) -> list[Queue]:
    """Every queue in front of ``stages`` that is not empty, in the order of the stages, then by tenant and lane."""
    pending = [stage for stage in stages if stage not in (Stage.RAW_LEADS, Stage.CRM_SYNC_BATCHES)]
    asked = [
        *([_INTAKE] if Stage.RAW_LEADS in stages else []),
        *([_PENDING] if pending else []),
        *([_OPEN_DELIVERIES] if Stage.CRM_SYNC_BATCHES in stages else []),
    ]
    statement = sa.text(" union all ".join(asked))
    found = [
        Queue(Stage(row.stage), row.tenant, Lane(row.lane), row.waiting, row.oldest_since)
        for row in connection.execute(statement, {"stages": [str(stage) for stage in pending]} if pending else {})
    ]
    order, urgency = list(Stage), list(Lane)
    return sorted(found, key=lambda queue: (order.index(queue.stage), queue.tenant, urgency.index(queue.lane)))


def judged_since(connection: sa.Connection, since: datetime) -> list[Judged]:
    """What validation said since an instant, by tenant and source."""
    rows = connection.execute(_JUDGED, {"since": since})
    return [Judged(row.tenant, row.source, row.leads, row.rejected) for row in rows]


def duplicate_emails(connection: sa.Connection) -> list[DuplicateEmails]:
    """The tenants in which more than one golden contact holds an address, and would be delivered with it.

    None, if all is well. That several contacts want one address, and all but one await it, is no fault.
    """
    index = f"{SCHEMA}.uq_golden_contacts_tenant_email_key"
    guarded: bool = connection.execute(_ADDRESSES_ARE_UNIQUE, {"index": index}).scalar_one()
    if guarded:
        return []
    rows = connection.execute(_DUPLICATE_EMAILS)
    return [DuplicateEmails(row.tenant, row.emails, row.contacts) for row in rows]


def settled_since(connection: sa.Connection, since: datetime) -> list[Settled]:
    """How deliveries ended since an instant, by tenant and destination; what is still being tried is not counted."""
    rows = connection.execute(_SETTLED, {"since": since})
    return [Settled(row.tenant, row.destination, row.delivered, row.dead) for row in rows]


def stages_due(
    connection: sa.Connection,
    *,
    tenants: Sequence[str],
    doors: Iterable[tuple[str, str, Lane]],
    lanes: Sequence[Lane],
    now: datetime,
) -> tuple[Stage, ...]:
    """The stages with something that a run could take now, in order.

    ``doors`` are the tenants' destinations that would take something, by lane; what is parked is not due.
    Neither are those of a destination that the tenant no longer has, nor the leads of a tenant that is not configured:
    runs that can move nothing would hold up those that can. Their age still shows in ``queues``.
    """
    rows = connection.execute(
        _DUE,
        {
            "tenants": list(tenants),
            "lanes": [str(lane) for lane in lanes],
            "stages": [str(s) for s in (Stage.VALIDATED_LEADS, Stage.DEDUPED_LEADS, Stage.GOLDEN_CONTACTS)],
            "doors": json.dumps(
                [{"tenant": tenant, "destination": name, "lane": lane} for tenant, name, lane in doors]
            ),
            "now": now,
        },
    )
    due = {Stage(row.stage) for row in rows}
    return tuple(stage for stage in Stage if stage in due)
