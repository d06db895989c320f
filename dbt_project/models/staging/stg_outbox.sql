select
    outbox_id,
    tenant,
    contact_id,
    destination,
    operation,
    state,
    lane,
    wanted_version,
    delivered_version,
    waiting_since,
    attempts,
    last_verdict,
    delivered_at
from {{ source('leads', 'outbox') }}
