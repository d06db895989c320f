"""The statements of the way in: ``buffer``, ``ingest_keys`` and ``capture_batches``.

They are plain text with ``%(name)s`` parameters, because they are run in two ways: the capture service sends them over
psycopg's asynchronous connection, the steps over SQLAlchemy (``exec_driver_sql``). Who calls them is ``buffer``.
"""

from datetime import datetime

import sqlalchemy as sa

# What a session that runs APPEND must set. While ingest_keys is small the planner would read it whole, and a connection
# that stays open keeps that plan while the table grows: with 60,000 keys that halved what the door could take.
APPEND_SETTING = ("enable_seqscan", "off")

# The day (UTC) of the instant in a version 7 id, as PostgreSQL 15 can read it; what is no such id is of a day, too.
DAY_OF_ID = """(to_timestamp(least(
    ('x' || substr(replace(lead_id::text, '-', ''), 1, 12))::bit(48)::bigint / 1000.0, 253402300799
)) at time zone 'UTC')::date"""

# One group commit, in one statement and so in one transaction. `on conflict do nothing` decides which post is first;
# posts of one group are inserted in the order of their keys, so that two writers cannot deadlock. Only the posts that
# were not new come back, nearly none: parsing a row for each lead cost a twentieth of what a lead costs. One that comes
# back without a first lead was beaten by a transaction that this statement's snapshot does not see, or by an equal one
# of its own group: sent again, it is found. One that finds its own lead id was stored by an earlier try of this commit.
APPEND = """
with incoming as materialized (
    select t.*, decode(t.key_hex, 'hex') as key_sha256, decode(t.body_hex, 'hex') as body_sha256
    from rows from (
        jsonb_to_recordset(cast(%(leads)s as jsonb)) as (
            lead_id uuid, tenant text, source text, lane text, received_at timestamptz, key_hex text, body_hex text,
            payload jsonb, consent jsonb, context jsonb
        )
    ) with ordinality as t(
        lead_id, tenant, source, lane, received_at, key_hex, body_hex, payload, consent, context, place
    )
), fresh as (
    insert into ingest_keys (tenant, source, key_sha256, lead_id, body_sha256, received_at)
    select tenant, source, key_sha256, lead_id, body_sha256, received_at
    from incoming
    order by tenant, source, key_sha256, place
    on conflict (tenant, source, key_sha256) do nothing
    returning lead_id
), known as materialized (
    select incoming.lead_id, incoming.tenant, incoming.source, incoming.lane,
        first.lead_id as first_lead_id, first.body_sha256 = incoming.body_sha256 as same_body
    from incoming
    left join lateral (
        select ingest_keys.lead_id, ingest_keys.body_sha256 from ingest_keys
        where ingest_keys.tenant = incoming.tenant and ingest_keys.source = incoming.source
            and ingest_keys.key_sha256 = incoming.key_sha256
        limit 1
    ) as first on true
    where incoming.lead_id not in (select lead_id from fresh)
), buffered as (
    insert into buffer (lead_id, tenant, source, lane, received_at, payload, consent, context)
    select lead_id, tenant, source, lane, received_at, payload, consent, context
    from incoming
    where lead_id in (select lead_id from fresh)
    returning tenant, source, lane, lead_id
), counted as (
    insert into capture_batches (batch_id, tenant, source, lane, captured, captured_by_day, duplicates, committed_at)
    select %(batch_id)s, tenant, source, lane, sum(captured),
        coalesce(jsonb_object_agg(day, captured) filter (where day is not null), '{}'), sum(duplicates), %(now)s
    from (
        select tenant, source, lane, day, count(*) filter (where is_new) as captured,
            count(*) filter (where not is_new) as duplicates
        from (
            select tenant, source, lane, true as is_new,
                case when not %(of_one_day)s then DAY_OF_ID end as day
            from buffered
            union all
            select tenant, source, lane, false, null from known
            where same_body and first_lead_id <> lead_id
        ) as posts
        group by tenant, source, lane, day
    ) as days
    group by tenant, source, lane
)
select lead_id, first_lead_id, same_body from known
""".replace("DAY_OF_ID", f"to_char({DAY_OF_ID}, 'YYYY-MM-DD')")

# From the buffer into the first room, copied by the database itself: the payload stays as it was sent, to the last
# digit of its numbers. `skip locked` is why two workers cannot both take a lead.
#
# The range is compared as a row, and the session is told not to sort or read whole tables: with a million leads waiting
# and statistics from before they came, the planner walked the primary key past everybody else's leads, or sorted all
# of a lane for each chunk (measured: 1,900 leads a second instead of 16,000).
MOVE_SETTINGS = """
select set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
    set_config('enable_sort', 'off', true)
"""
MOVE = """
with taken as materialized (
    select lead_id from buffer
    where (tenant, lane, lead_id) >= (%(tenant)s, %(lane)s, '00000000-0000-0000-0000-000000000000'::uuid)
        and (tenant, lane, lead_id) <= (%(tenant)s, %(lane)s, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
    order by tenant, lane, lead_id
    limit %(limit)s
    for update skip locked
), moved as (
    delete from buffer using taken where buffer.lead_id = taken.lead_id
    returning buffer.lead_id, buffer.tenant, buffer.source, buffer.lane, buffer.received_at, buffer.payload,
        buffer.consent, buffer.context
), stored as (
    insert into raw_leads (
        lead_id, tenant, source, capture_lane, received_at, payload, context, batch_id, runner_id, moved_at
    )
    select lead_id, tenant, source, lane, received_at, payload, context, %(batch_id)s, %(runner_id)s, %(now)s
    from moved
    on conflict (lead_id) do nothing
)
select lead_id, received_at,
    case when consent = '[]'::jsonb then null else consent::text end as consent,
    case when consent = '[]'::jsonb and context -> 'reference' is null then null else context::text end as context
from moved
"""

# A walk over the index from tenant to tenant: the cost follows the number of tenants, not of waiting leads.
TENANTS_WAITING = """
with recursive names as (
    (select min(tenant) as tenant from buffer)
    union all
    select (select min(later.tenant) from buffer later where later.tenant > names.tenant)
    from names where names.tenant is not null
)
select tenant from names
where tenant is not null
    and exists (select from buffer where buffer.tenant = names.tenant and buffer.lane = any(%(lanes)s))
order by tenant
"""

# The count is read from the index alone where vacuum has been; a lead's id begins with its time, so that the first id
# is the oldest lead. Compared as a row, because an equal tenant and lane would let the planner walk the primary key
# from its beginning, past the leads of everybody else.
DEPTHS = """
with counted as materialized (
    select tenant, lane, count(*) as waiting from buffer group by tenant, lane
)
select counted.tenant, counted.lane, counted.waiting, first.received_at as oldest_received_at
from counted
cross join lateral (
    select buffer.received_at from buffer
    where (buffer.tenant, buffer.lane, buffer.lead_id)
        >= (counted.tenant, counted.lane, '00000000-0000-0000-0000-000000000000'::uuid)
    order by buffer.tenant, buffer.lane, buffer.lead_id
    limit 1
) as first
order by counted.tenant, counted.lane
"""


# Whether an append would be refused for the whole server's sake. A full disk cannot be asked about: it is tried.
TAKES_WRITES = "select not pg_is_in_recovery() and current_setting('transaction_read_only') = 'off'"


def purge_ingest_keys(connection: sa.Connection, *, received_before: datetime, limit: int = 10_000) -> int:
    """Forget up to ``limit`` posts from before an instant; a re-post of one of them is a new lead. Says how many."""
    deleted = connection.exec_driver_sql(
        """
        with old as (
            select tenant, source, key_sha256 from ingest_keys
            where received_at < %(received_before)s
            order by received_at
            limit %(limit)s
            for update skip locked
        )
        delete from ingest_keys using old
        where ingest_keys.tenant = old.tenant and ingest_keys.source = old.source
            and ingest_keys.key_sha256 = old.key_sha256
        """,
        {"received_before": received_before, "limit": limit},
    )
    return deleted.rowcount
