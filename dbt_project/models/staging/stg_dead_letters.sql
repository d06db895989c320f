select
    dead_letter_id,
    tenant,
    destination,
    reason,
    code,
    died_at,
    resolved_at,
    resolution
from {{ source('leads', 'dead_letters') }}
