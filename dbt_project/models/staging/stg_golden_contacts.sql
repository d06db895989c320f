-- Personal data ends here: nothing in this schema holds more of a person than these columns.
with counted as (
    select
        *,
        -- A domain that few contacts share names a company, or a family.
        count(*) over (partition by tenant, split_part(email, '@', 2)) >= 5 as domain_is_common
    from {{ source('leads', 'golden_contacts') }}
)

select
    contact_id,
    tenant,
    version,
    {{ masked_email('email', 'domain_is_common') }} as email_masked,
    {{ last_digits('phone') }} as phone_masked,
    {{ initial('first_name') }} as first_name_initial,
    {{ initial('last_name') }} as last_name_initial,
    email is not null as has_email,
    phone is not null as has_phone,
    company is not null as has_company,
    country,
    coalesce(
        consent #>> '{marketing,email,granted}',
        consent #>> '{marketing,any,granted}'
    )::boolean as marketing_email_granted,
    lead_count,
    first_source,
    last_source,
    first_seen_at,
    last_seen_at,
    updated_at
from counted
