with contacts as (
    select
        tenant,
        destination,
        count(*) filter (where state = 'waiting' and wanted) as waiting,
        count(*) filter (where state = 'in_flight' and wanted) as in_flight,
        count(*) filter (where state = 'delivered' and wanted) as delivered,
        count(*) filter (where state = 'dead' and wanted) as dead,
        count(*) filter (where state = 'suppressed' and wanted) as suppressed,
        count(*) filter (where state in ('waiting', 'in_flight', 'dead') and not wanted) as removals_open,
        min(waiting_since) filter (where state in ('waiting', 'in_flight')) as oldest_waiting_since,
        coalesce(max(attempts) filter (where state in ('waiting', 'in_flight')), 0) as most_attempts,
        max(delivered_at) filter (where wanted) as last_delivered_at
    -- What a destination was told to take away is no contact that it has.
    from (select *, operation = 'upsert' as wanted from {{ ref('stg_outbox') }}) as o
    group by tenant, destination
),

recent as (
    select * from {{ ref('stg_crm_requests') }}
    where sent_at >= now() - interval '24 hours'
),

attempts as (
    select
        a.batch_id,
        a.tenant,
        a.destination,
        a.verdict
    from recent as r
    inner join {{ ref('stg_sync_attempts') }} as a on r.batch_id = a.batch_id
),

letters as (
    select
        tenant,
        destination,
        count(*) as dead_letters_open,
        min(died_at) as oldest_dead_letter_at
    from {{ ref('stg_dead_letters') }}
    where resolved_at is null
    group by tenant, destination
),

-- A request that carried contacts of several tenants has none of its own: it counts for each of them.
carried as (
    select batch_id, tenant from recent
    where tenant is not null
    union
    select r.batch_id, a.tenant
    from recent as r
    inner join attempts as a on r.batch_id = a.batch_id
    where r.tenant is null
),

requests as (
    select
        c.tenant,
        r.destination,
        count(*) as requests_24h,
        count(*) filter (where r.throttled) as throttled_24h,
        count(*) filter (where r.http_status >= 500 or r.http_status is null) as failed_24h,
        percentile_cont(0.5) within group (
            order by extract(epoch from r.answered_at - r.sent_at)
        ) as median_answer_seconds
    from carried as c
    inner join recent as r on c.batch_id = r.batch_id
    group by c.tenant, r.destination
),

arrived as (
    select
        a.tenant,
        a.destination,
        count(*) as delivered_24h
    from recent as r
    inner join attempts as a on r.batch_id = a.batch_id
    where a.verdict = 'delivered'
    group by a.tenant, a.destination
)

select
    c.tenant || ' ' || c.destination as route,
    c.tenant,
    c.destination,
    c.waiting,
    c.in_flight,
    c.delivered,
    c.dead,
    c.suppressed,
    c.removals_open,
    c.oldest_waiting_since,
    c.most_attempts,
    c.last_delivered_at,
    coalesce(l.dead_letters_open, 0) as dead_letters_open,
    l.oldest_dead_letter_at,
    coalesce(r.requests_24h, 0) as requests_24h,
    coalesce(r.throttled_24h, 0) as throttled_24h,
    coalesce(r.failed_24h, 0) as failed_24h,
    coalesce(a.delivered_24h, 0) as delivered_24h,
    {{ share('r.throttled_24h', 'r.requests_24h') }} as throttled_rate_24h,
    {{ share('r.failed_24h', 'r.requests_24h') }} as failure_rate_24h,
    r.median_answer_seconds
from contacts as c
left join requests as r on c.tenant = r.tenant and c.destination = r.destination
left join arrived as a on c.tenant = a.tenant and c.destination = a.destination
left join letters as l on c.tenant = l.tenant and c.destination = l.destination
