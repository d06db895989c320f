select
    verification_id,
    tenant,
    lead_id,
    kind,
    tier,
    provider,
    verdict,
    cost_micros,
    verified_at
from {{ source('leads', 'verifications') }}
