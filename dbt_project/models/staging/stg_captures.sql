select
    batch_id,
    tenant,
    source,
    lane,
    captured,
    duplicates,
    committed_at
from {{ source('leads', 'capture_batches') }}
