-- What became of leads. The door may be told any id: only leads and contacts of the same tenant count. What is told of a
-- contact is told of every lead of it, and of the contact that it was merged into; its amount counts once, for the lead
-- that founded the contact.
select
    o.outcome_id,
    o.tenant,
    d.lead_id,
    o.kind,
    o.amount,
    o.occurred_at,
    o.received_at
from {{ source('leads', 'outcomes') }} as o
inner join {{ source('leads', 'deduped_leads') }} as d on o.lead_id = d.lead_id and o.tenant = d.tenant

union all

select
    o.outcome_id,
    o.tenant,
    d.lead_id,
    o.kind,
    case when d.lead_id = s.founding_lead_id then o.amount end as amount,
    o.occurred_at,
    o.received_at
from {{ source('leads', 'outcomes') }} as o
inner join {{ source('leads', 'contacts') }} as c on o.contact_id = c.contact_id and o.tenant = c.tenant
inner join {{ source('leads', 'contacts') }} as s on s.contact_id = coalesce(c.merged_into, c.contact_id)
inner join {{ source('leads', 'deduped_leads') }} as d on s.contact_id = d.contact_id and d.tenant = c.tenant
where o.lead_id is null
