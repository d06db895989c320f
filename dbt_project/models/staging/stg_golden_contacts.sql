-- Personal data ends here: nothing in this schema holds more of a person than these columns.
-- A domain that few contacts share names a company, or a family.
with common_domains as (
    select
        tenant,
        split_part(email, '@', 2) as domain
    from {{ source('leads', 'golden_contacts') }}
    where email is not null
    group by 1, 2
    having count(*) >= 5
)

select
    g.contact_id,
    g.tenant,
    g.version,
    {{ masked_email('g.email', 'd.domain is not null') }} as email_masked,
    {{ last_digits('g.phone') }} as phone_masked,
    {{ initial('g.first_name') }} as first_name_initial,
    {{ initial('g.last_name') }} as last_name_initial,
    g.email is not null as has_email,
    g.phone is not null as has_phone,
    g.company is not null as has_company,
    g.country,
    coalesce(
        g.consent #>> '{marketing,email,granted}',
        g.consent #>> '{marketing,any,granted}'
    )::boolean as marketing_email_granted,
    g.lead_count,
    g.first_source,
    g.last_source,
    g.first_seen_at,
    g.last_seen_at,
    g.updated_at
from {{ source('leads', 'golden_contacts') }} as g
left join common_domains as d on g.tenant = d.tenant and split_part(g.email, '@', 2) = d.domain
