{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key='captured_on',
    on_schema_change='sync_all_columns',
    indexes=[{'columns': ['captured_on']}, {'columns': ['tenant', 'source', 'captured_on']}]
) }}

{#- Of older days, those whose leads were judged again, brought together, disposed of, delivered at last or given up. -#}
{%- set days = days_to_build(
    "select " ~ day_of(instant_of('lead_id')) ~ " as day from ("
    ~ " select lead_id from " ~ source('leads', 'validated_leads') ~ " where validated_at >= " ~ last_built()
    ~ " union select lead_id from " ~ source('leads', 'rejected_leads') ~ " where rejected_at >= " ~ last_built()
    ~ " union select lead_id from " ~ source('leads', 'lead_dispositions') ~ " where decided_at >= " ~ last_built()
    ~ " union select founding_lead_id from " ~ source('leads', 'contacts')
    ~ " where contact_id >= " ~ first_id_since_last_built()
    ~ " union select (moved.lead ->> 'lead_id')::uuid from " ~ source('leads', 'merge_log') ~ " as m"
    ~ " cross join lateral jsonb_array_elements(m.lead_ids) as moved (lead)"
    ~ " where m.merge_id >= " ~ first_id_since_last_built()
    ~ " union select lead_id from (" ~ first_deliveries(last_built()) ~ ") as delivered"
    ~ " union select d.lead_id from " ~ source('leads', 'outbox') ~ " as o"
    ~ " inner join " ~ source('leads', 'deduped_leads') ~ " as d on o.contact_id = d.contact_id"
    ~ " where o.state = 'dead' and o.updated_at >= " ~ last_built()
    ~ ") as leads",
    needed='discarded'
) -%}

with captured as (
    select
        lead_id,
        tenant,
        source,
        {{ day_of('received_at') }} as captured_on
    from {{ ref('stg_captured_leads') }}
    where {{ made_in('lead_id', days) }} and {{ happened_in('received_at', days) }}
),

verdicts as (
    select
        lead_id,
        verdict
    from {{ ref('stg_verdicts') }}
    where {{ made_in('lead_id', days) }}
),

deduped as (
    select
        lead_id,
        contact_id,
        decision,
        golden_version
    from {{ ref('stg_deduped_leads') }}
    where {{ made_in('lead_id', days) }}
),

delivery as (
    select
        d.lead_id,
        bool_and(coalesce(o.delivered_version, 0) >= d.golden_version) as delivered,
        bool_or(o.state = 'dead' and coalesce(o.delivered_version, 0) < d.golden_version) as dead,
        bool_or(o.state = 'suppressed' and coalesce(o.delivered_version, 0) < d.golden_version) as suppressed
    from deduped as d
    inner join {{ ref('stg_outbox') }} as o on d.contact_id = o.contact_id
    where d.golden_version is not null and o.state <> 'cancelled'
    group by d.lead_id
),

disposed as (
    select lead_id from {{ source('leads', 'lead_dispositions') }}
    where {{ made_in('lead_id', days) }}
),

leads as (
    select
        l.tenant,
        l.source,
        l.captured_on,
        v.verdict,
        d.lead_id is not null as matched,
        d.decision,
        d.golden_version is not null as golden,
        case
            when d.golden_version is null then null
            when s.delivered then 'delivered'
            when x.lead_id is not null then 'discarded'
            when s.dead then 'dead'
            when s.suppressed then 'suppressed'
        end as ended_as
    from captured as l
    left join verdicts as v on l.lead_id = v.lead_id
    left join deduped as d on l.lead_id = d.lead_id
    left join delivery as s on l.lead_id = s.lead_id
    left join disposed as x on l.lead_id = x.lead_id
)

select
    tenant || ' ' || source || ' ' || captured_on as funnel_key,
    tenant,
    source,
    captured_on,
    count(*) as captured,
    count(*) filter (where verdict is null) as not_yet_judged,
    count(*) filter (where verdict = 'validated') as validated,
    count(*) filter (where verdict = 'rejected') as rejected,
    count(*) filter (where matched) as matched,
    count(*) filter (where decision <> 'new') as joined_known_contact,
    count(*) filter (where golden) as golden,
    count(*) filter (where ended_as = 'delivered') as delivered,
    count(*) filter (where ended_as = 'dead') as dead,
    count(*) filter (where ended_as = 'suppressed') as suppressed,
    count(*) filter (where ended_as = 'discarded') as discarded,
    round(count(*) filter (where verdict = 'rejected')::numeric / count(*), 4) as rejection_rate,
    round(count(*) filter (where ended_as = 'delivered')::numeric / count(*), 4) as delivery_rate,
    now() as built_at
from leads
group by tenant, source, captured_on
