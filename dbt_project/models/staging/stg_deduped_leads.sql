select
    lead_id,
    tenant,
    contact_id,
    golden_version,
    decision,
    sync_lane,
    deduped_at
from {{ source('leads', 'deduped_leads') }}
