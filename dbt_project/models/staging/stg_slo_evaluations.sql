select
    slo,
    tenant,
    lane,
    evaluated_at,
    verdict,
    good,
    bad,
    value,
    budget_left,
    burn_rate
from {{ source('leads', 'slo_history') }}
where evaluated_at <= now()  -- what a clock wrote that ran ahead is no evaluation
