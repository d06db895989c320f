-- Who decided is told by kind: a colleague's name is nobody's figure.
select
    merge_id,
    tenant,
    kind,
    split_part(actor, ':', 1) as decided_by,
    case when actor like 'rule:%' or actor like 'model:%' then actor else split_part(actor, ':', 1) end as decider,
    undoes,
    match_weight,
    merged_at
from {{ source('leads', 'merge_log') }}
