with delivery as (
    select
        d.lead_id,
        bool_and(o.delivered_version >= d.golden_version) as delivered,
        bool_or(o.state = 'dead' and coalesce(o.delivered_version, 0) < d.golden_version) as dead
    from {{ ref('stg_deduped_leads') }} as d
    inner join {{ ref('stg_outbox') }} as o on d.contact_id = o.contact_id
    where d.golden_version is not null and o.state <> 'cancelled'
    group by d.lead_id
),

leads as (
    select
        l.tenant,
        l.source,
        (l.received_at at time zone 'UTC')::date as captured_on,
        v.verdict,
        d.lead_id is not null as matched,
        d.decision,
        d.golden_version is not null as golden,
        coalesce(s.delivered, false) as delivered,
        coalesce(s.dead, false) as dead
    from {{ ref('stg_captured_leads') }} as l
    left join {{ ref('stg_verdicts') }} as v on l.lead_id = v.lead_id
    left join {{ ref('stg_deduped_leads') }} as d on l.lead_id = d.lead_id
    left join delivery as s on l.lead_id = s.lead_id
)

select
    tenant || ' ' || source || ' ' || captured_on as funnel_key,
    tenant,
    source,
    captured_on,
    count(*) as captured,
    count(*) filter (where verdict is null) as not_yet_judged,
    count(*) filter (where verdict = 'validated') as validated,
    count(*) filter (where verdict = 'rejected') as rejected,
    count(*) filter (where matched) as matched,
    count(*) filter (where decision <> 'new') as joined_known_contact,
    count(*) filter (where golden) as golden,
    count(*) filter (where delivered) as delivered,
    count(*) filter (where dead) as dead,
    round(count(*) filter (where verdict = 'rejected')::numeric / count(*), 4) as rejection_rate,
    round(count(*) filter (where delivered)::numeric / count(*), 4) as delivery_rate
from leads
group by tenant, source, captured_on
