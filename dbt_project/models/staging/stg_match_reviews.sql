select
    review_id,
    tenant,
    case when actor like 'rule:%' or actor like 'model:%' then actor else 'person' end as decider,
    cause,
    state,
    match_weight,
    opened_at,
    decided_at
from {{ source('leads', 'match_reviews') }}
