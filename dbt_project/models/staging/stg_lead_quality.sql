-- What the newest revision of each accepted lead was found to be worth and to risk.
select distinct on (lead_id)
    lead_id,
    tenant,
    revision,
    email is not null as has_email,
    phone is not null as has_phone,
    value_score,
    risk_score,
    flags ? 'role_mailbox' as has_role_mailbox
from {{ source('leads', 'validated_leads') }}
order by lead_id asc, revision desc
