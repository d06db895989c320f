-- The newest verdict on each lead. A lead may be judged again: its newest revision counts.
select distinct on (lead_id)
    lead_id,
    tenant,
    verdict,
    revision,
    decided_at
from (
    select lead_id, tenant, 'validated' as verdict, revision, validated_at as decided_at
    from {{ source('leads', 'validated_leads') }}
    union all
    select lead_id, tenant, 'rejected' as verdict, revision, rejected_at as decided_at
    from {{ source('leads', 'rejected_leads') }}
) as verdicts
order by lead_id asc, revision desc, verdict asc
