select
    batch_id,
    outbox_id,
    contact_id,
    tenant,
    destination,
    version,
    attempt,
    verdict,
    code,
    sent_at,
    settled_at
from {{ source('leads', 'sync_attempts') }}
