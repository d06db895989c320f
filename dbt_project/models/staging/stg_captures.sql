select
    batch_id,
    tenant,
    source,
    lane,
    captured,
    duplicates,
    committed_at
from {{ source('leads', 'capture_batches') }}

union all

-- What waits in Redis is counted when it comes out of it.
select
    batch_id,
    tenant,
    source,
    lane,
    moved as captured,
    duplicates,
    {{ instant_of('batch_id') }} as committed_at
from {{ source('leads', 'redis_moves') }}
