-- Every captured lead of a day and source is judged or waits to be, and no step holds more leads than the one before it.
select funnel_key
from {{ ref('lead_funnel') }}
where
    captured <> not_yet_judged + validated + rejected
    or golden > matched
    or matched > captured
    or delivered + dead + suppressed + discarded > golden
    or rejection_rate not between 0 and 1
    or delivery_rate not between 0 and 1
