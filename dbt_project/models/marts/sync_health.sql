with contacts as (
    select
        tenant,
        destination,
        count(*) filter (where state = 'waiting') as waiting,
        count(*) filter (where state = 'in_flight') as in_flight,
        count(*) filter (where state = 'delivered') as delivered,
        count(*) filter (where state = 'dead') as dead,
        count(*) filter (where state = 'suppressed') as suppressed,
        min(waiting_since) filter (where state in ('waiting', 'in_flight')) as oldest_waiting_since,
        coalesce(max(attempts) filter (where state in ('waiting', 'in_flight')), 0) as most_attempts,
        max(delivered_at) as last_delivered_at
    from {{ ref('stg_outbox') }}
    group by tenant, destination
),

requests as (
    select
        tenant,
        destination,
        count(*) as requests_24h,
        count(*) filter (where http_status = 429) as throttled_24h,
        count(*) filter (where http_status >= 500 or http_status is null) as failed_24h,
        sum(delivered) as delivered_24h,
        percentile_cont(0.5) within group (order by extract(epoch from answered_at - sent_at)) as median_answer_seconds
    from {{ ref('stg_crm_requests') }}
    where sent_at >= now() - interval '24 hours'
    group by tenant, destination
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
    c.oldest_waiting_since,
    c.most_attempts,
    c.last_delivered_at,
    coalesce(r.requests_24h, 0) as requests_24h,
    coalesce(r.throttled_24h, 0) as throttled_24h,
    coalesce(r.failed_24h, 0) as failed_24h,
    coalesce(r.delivered_24h, 0) as delivered_24h,
    r.median_answer_seconds
from contacts as c
left join requests as r on c.tenant = r.tenant and c.destination = r.destination
