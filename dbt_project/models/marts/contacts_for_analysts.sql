with delivery as (
    select
        contact_id,
        count(*) as destinations,
        count(*) filter (where delivered_version >= wanted_version) as destinations_current,
        max(delivered_at) as last_delivered_at
    from {{ ref('stg_outbox') }}
    where operation = 'upsert' and state <> 'cancelled'
    group by contact_id
)

select
    c.contact_id,
    c.tenant,
    c.email_masked,
    c.phone_masked,
    c.first_name_initial,
    c.last_name_initial,
    c.has_email,
    c.has_phone,
    c.has_company,
    c.country,
    c.marketing_email_granted,
    c.lead_count,
    c.first_source,
    c.last_source,
    c.first_seen_at,
    c.last_seen_at,
    coalesce(d.destinations, 0) as destinations,
    coalesce(d.destinations_current, 0) as destinations_current,
    d.last_delivered_at
from {{ ref('stg_golden_contacts') }} as c
left join delivery as d on c.contact_id = d.contact_id
