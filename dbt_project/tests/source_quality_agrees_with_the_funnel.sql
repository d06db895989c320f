-- Two marts that count the same leads count as many, and no lead is both accepted and refused.
select coalesce(q.source_key, f.funnel_key) as key
from {{ ref('source_quality') }} as q
full join {{ ref('lead_funnel') }} as f on q.source_key = f.funnel_key
where
    coalesce(q.captured, 0) <> coalesce(f.captured, 0)
    or coalesce(q.validated, 0) <> coalesce(f.validated, 0)
    or coalesce(q.matched, 0) <> coalesce(f.matched, 0)
    or coalesce(q.delivered, 0) <> coalesce(f.delivered, 0)
    or q.validated + q.rejected > q.captured
    or greatest(q.hard_bounced, q.complained, q.opportunities, q.with_email) > q.matched
    or q.won > q.opportunities
    or q.mailboxes_invalid > q.mailboxes_checked
