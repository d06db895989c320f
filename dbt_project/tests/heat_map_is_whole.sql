-- Every stage that was measured for a week has a cell for every hour of the week, and none has two.
select
    tenant,
    stage,
    destination
from {{ ref('capacity_heat_map') }}
group by tenant, stage, destination
having
    count(*) > 168
    or count(*) <> count(distinct weekday * 24 + hour_of_day)
    or (max(hours_observed) > 1 and count(*) <> 168)
    or min(hour_of_day) < 0
    or max(hour_of_day) > 23
