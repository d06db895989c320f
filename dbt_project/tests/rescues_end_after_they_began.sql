-- A lead that arrived before it was first refused was rescued from nothing.
select lead_id
from {{ ref('rescued_leads') }}
where delivered_at < refused_at
