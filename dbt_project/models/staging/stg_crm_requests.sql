select
    batch_id,
    tenant,
    destination,
    operation,
    records,
    delivered,
    retried,
    dead,
    http_status,
    throttled,
    sent_at,
    answered_at
from {{ source('leads', 'crm_sync_batches') }}
