select
    tenant,
    lane,
    stage,
    destination,
    began_at,
    bucket,
    span_seconds,
    leads
from {{ source('leads', 'latency_histograms') }}
