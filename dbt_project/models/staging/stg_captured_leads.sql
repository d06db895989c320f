-- Every lead that is known, wherever it is: a lead is in the buffer or in raw_leads, never in both for good.
select
    lead_id,
    tenant,
    source,
    lane as capture_lane,
    received_at,
    false as moved
from {{ source('leads', 'buffer') }} as b
where not exists (select from {{ source('leads', 'raw_leads') }} as r where r.lead_id = b.lead_id)

union all

select
    lead_id,
    tenant,
    source,
    capture_lane,
    received_at,
    true as moved
from {{ source('leads', 'raw_leads') }}
