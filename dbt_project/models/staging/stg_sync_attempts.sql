select
    batch_id,
    outbox_id,
    tenant,
    destination,
    verdict,
    code,
    sent_at,
    settled_at
from {{ source('leads', 'sync_attempts') }}
