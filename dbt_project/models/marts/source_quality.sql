{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key='captured_on',
    on_schema_change='sync_all_columns',
    indexes=[{'columns': ['captured_on']}, {'columns': ['tenant', 'source', 'captured_on']}]
) }}

{#- Of older days, those that the funnel was built anew for, and those of whose leads something was told or looked up. -#}
{%- set days = days_to_build(
    "select captured_on as day from " ~ ref('lead_funnel') ~ " where built_at >= "
    ~ "coalesce((select max(built_at) from " ~ this ~ "), '-infinity')"
    ~ " union select " ~ day_of(instant_of('lead_id')) ~ " from " ~ ref('stg_outcomes')
    ~ " where outcome_id >= " ~ first_id_since_last_built()
    ~ " union select " ~ day_of(instant_of('lead_id')) ~ " from " ~ ref('stg_lookups')
    ~ " where verified_at >= " ~ last_built()
) -%}

with funnel as (
    select * from {{ ref('lead_funnel') }}
    where {{ on_days('captured_on', days) }}
),

posts as (
    select
        tenant,
        source,
        {{ day_of('committed_at') }} as captured_on,
        sum(duplicates) as reposts
    from {{ ref('stg_captures') }}
    where {{ happened_in('committed_at', days) }}
    group by 1, 2, 3
    having sum(duplicates) > 0
),

captured as (
    select
        lead_id,
        tenant,
        source,
        {{ day_of('received_at') }} as captured_on
    from {{ ref('stg_captured_leads') }}
    where {{ made_in('lead_id', days) }} and {{ happened_in('received_at', days) }}
),

matched as (
    select lead_id from {{ ref('stg_deduped_leads') }}
    where {{ made_in('lead_id', days) }}
),

quality as (
    select
        lead_id,
        has_email,
        has_phone,
        has_role_mailbox,
        value_score,
        risk_score
    from {{ ref('stg_lead_quality') }}
    where {{ made_in('lead_id', days) }}
),

newest_lookups as (
    select distinct on (lead_id)
        lead_id,
        verdict
    from {{ ref('stg_lookups') }}
    where kind = 'mailbox' and verdict <> 'unknown' and {{ made_in('lead_id', days) }}
    order by lead_id asc, verified_at desc
),

lookup_costs as (
    select
        lead_id,
        sum(cost_micros) as cost_micros
    from {{ ref('stg_lookups') }}
    where {{ made_in('lead_id', days) }}
    group by lead_id
),

-- A lead counts once for each kind, however often it was told.
outcomes as (
    select
        lead_id,
        bool_or(kind = 'hard_bounce') as hard_bounced,
        bool_or(kind = 'soft_bounce') as soft_bounced,
        bool_or(kind = 'complaint') as complained,
        bool_or(kind in ('opportunity', 'won', 'lost')) as became_opportunity,
        bool_or(kind = 'won') as was_won,
        sum(amount) filter (where kind = 'won') as won_amount
    from {{ ref('stg_outcomes') }}
    where {{ made_in('lead_id', days) }}
    group by lead_id
),

leads as (
    select
        c.tenant,
        c.source,
        c.captured_on,
        count(*) filter (where q.has_email) as with_email,
        count(*) filter (where q.has_phone) as with_phone,
        count(*) filter (where q.has_role_mailbox) as with_role_mailbox,
        round(avg(q.value_score), 1) as mean_value_score,
        round(avg(q.risk_score), 1) as mean_risk_score,
        count(k.lead_id) as mailboxes_checked,
        count(*) filter (where k.verdict = 'invalid') as mailboxes_invalid,
        count(*) filter (where o.hard_bounced) as hard_bounced,
        count(*) filter (where o.soft_bounced) as soft_bounced,
        count(*) filter (where o.complained) as complained,
        count(*) filter (where o.became_opportunity) as opportunities,
        count(*) filter (where o.was_won) as won,
        sum(o.won_amount) as won_amount,
        sum(p.cost_micros) as cost_micros
    from captured as c
    inner join matched as m on c.lead_id = m.lead_id
    left join quality as q on c.lead_id = q.lead_id
    left join newest_lookups as k on c.lead_id = k.lead_id
    left join lookup_costs as p on c.lead_id = p.lead_id
    left join outcomes as o on c.lead_id = o.lead_id
    group by c.tenant, c.source, c.captured_on
),

days_of_sources as (
    select tenant, source, captured_on from funnel
    union
    select tenant, source, captured_on from posts
)

select
    s.tenant || ' ' || s.source || ' ' || s.captured_on as source_key,
    s.tenant,
    s.source,
    s.captured_on,
    coalesce(f.captured, 0) as captured,
    coalesce(p.reposts, 0)::bigint as reposts,
    coalesce(f.validated, 0) as validated,
    coalesce(f.rejected, 0) as rejected,
    coalesce(f.matched, 0) as matched,
    coalesce(f.joined_known_contact, 0) as joined_known_contact,
    coalesce(f.delivered, 0) as delivered,
    coalesce(l.with_email, 0) as with_email,
    coalesce(l.with_phone, 0) as with_phone,
    coalesce(l.with_role_mailbox, 0) as with_role_mailbox,
    l.mean_value_score,
    l.mean_risk_score,
    coalesce(l.mailboxes_checked, 0) as mailboxes_checked,
    coalesce(l.mailboxes_invalid, 0) as mailboxes_invalid,
    coalesce(l.hard_bounced, 0) as hard_bounced,
    coalesce(l.soft_bounced, 0) as soft_bounced,
    coalesce(l.complained, 0) as complained,
    coalesce(l.opportunities, 0) as opportunities,
    coalesce(l.won, 0) as won,
    coalesce(l.won_amount, 0) as won_amount,
    round(coalesce(l.cost_micros, 0) / 1000000.0, 6) as lookup_cost,
    {{ share('f.rejected', 'f.captured') }} as rejection_rate,
    {{ share('f.joined_known_contact', 'f.matched') }} as known_contact_rate,
    {{ share('l.mailboxes_invalid', 'l.mailboxes_checked') }} as invalid_mailbox_rate,
    {{ share('coalesce(l.hard_bounced, 0)', 'f.matched') }} as bounce_rate,
    {{ share('coalesce(l.opportunities, 0)', 'f.matched') }} as opportunity_rate,
    now() as built_at
from days_of_sources as s
left join funnel as f on s.tenant = f.tenant and s.source = f.source and s.captured_on = f.captured_on
left join posts as p on s.tenant = p.tenant and s.source = p.source and s.captured_on = p.captured_on
left join leads as l on s.tenant = l.tenant and s.source = l.source and s.captured_on = l.captured_on
