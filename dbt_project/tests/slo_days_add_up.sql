-- The worst of a day is no better than its end, and figures of a day lie where they must.
select slo_key
from {{ ref('slo_daily') }}
where
    (verdict_at_end = 'broken' and verdict <> 'broken')
    or (verdict_at_end = 'burning' and verdict not in ('burning', 'broken'))
    or (verdict = 'no_data' and verdict_at_end <> 'no_data')
    or (verdict in ('burning', 'broken')) <> (evaluations_not_kept > 0)
    or evaluations_not_kept > evaluations
    or least_budget_left > budget_left
    or good < 0
    or bad < 0
