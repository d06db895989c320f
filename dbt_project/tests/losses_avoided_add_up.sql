-- Every rescued lead is counted once, under one cause, and only what leads.yaml prices is money.
select 'sum' as fault
from (select coalesce(sum(rescued_leads), 0) as counted from {{ ref('loss_avoided') }}) as c
cross join (select count(*) as rescued from {{ ref('rescued_leads') }}) as r
where c.counted <> r.rescued

union all

select loss_key
from {{ ref('loss_avoided') }}
where
    rescued_leads <> rescued_from_limits + rescued_from_outages + rescued_from_credentials + rescued_from_locks
    or (cost_per_lead is null) <> (cost_of_loss_avoided is null)
    or cost_of_loss_avoided <> rescued_leads * cost_per_lead
