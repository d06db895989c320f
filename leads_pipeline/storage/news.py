"""What of a lead is news: fragments of SQL by which each lead is measured once, where it first comes.

``deduped_leads.first_golden_version`` tells it: null while no golden version has ever included the lead; else the first
version of its contact that does; 0 once a destination was through with it as part of another contact; ``LEFT_UNSENT``
between two contacts, while none was. All of it is about ``d``, a row of deduped_leads. A merge and a delivery of the
same contact in the same instant do not see each other, and then a lead counts twice. Keep out: times.
"""

# It was included and left its contact before a destination had it: the next contact's version is its first.
LEFT_UNSENT = -1

# Of a lead that was judged again: the lane in which it came, and null if the time was not ours. A replay moves it to
# the batch lane; who waits for it does not wait any less. A lead that was rejected waited for a person, and so did one
# whose values a person gave.
LANE_OF_CAPTURE = """(
    select r.capture_lane from raw_leads r
    where r.lead_id = d.lead_id
        and not exists (select from rejected_leads x where x.lead_id = d.lead_id)
        and not exists (
            select from lead_corrections x where x.lead_id = d.lead_id and (x.release or x.fields <> '{}')
        )
)"""

# The lane in which a lead is measured; null if it is not. First revisions, nearly all, cost no look.
MEASURED_LANE = f"case when d.revision = 1 then d.sync_lane else {LANE_OF_CAPTURE} end"

# What becomes of ``first_golden_version`` when a lead leaves its contact. What was held back counts as sent: the time
# until it may be is not ours.
ON_LEAVING = f"""case
    when d.first_golden_version < 1 or d.first_golden_version is null then d.first_golden_version
    when exists (
        select from outbox o where o.contact_id = d.contact_id
            and greatest(o.delivered_version, o.news_after_version) >= d.first_golden_version
    ) then 0
    else {LEFT_UNSENT} end"""

# What becomes of it when version ``t.version`` of its contact takes the lead in.
ON_INCLUSION = f"coalesce(nullif(d.first_golden_version, {LEFT_UNSENT}), t.version)"
