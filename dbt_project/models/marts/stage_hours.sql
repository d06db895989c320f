{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key='day',
    on_schema_change='sync_all_columns',
    indexes=[{'columns': ['day']}, {'columns': ['tenant', 'stage', 'hour']}]
) }}

{#- Measurements are folded within minutes, and by the hour once they are old; the sums stay what they were. -#}
{%- set days = days_to_build() -%}

with histograms as (
    select
        tenant,
        stage,
        destination,
        lane,
        date_trunc('hour', began_at, 'UTC') as hour,
        began_at,
        bucket,
        span_seconds,
        leads
    from {{ ref('stg_latencies') }}
    -- Named so that the index serves, whose first column it is.
    where span_seconds in (60, 3600) and {{ happened_in('began_at', days) }}
),

edges as (
    select
        place - 1 as bucket,
        edge
    from unnest(array[{{ latency_edges() | join(', ') }}]::double precision[]) with ordinality as t (edge, place)
),

-- How many leads of the hour took no longer than each bucket's upper edge.
ranked as (
    select
        tenant,
        stage,
        destination,
        lane,
        hour,
        bucket,
        sum(leads) as leads,
        sum(sum(leads)) over (partition by tenant, stage, destination, lane, hour order by bucket) as so_far,
        sum(sum(leads)) over (partition by tenant, stage, destination, lane, hour) as all_leads
    from histograms
    group by tenant, stage, destination, lane, hour, bucket
),

hours as (
    select
        r.tenant,
        r.stage,
        r.destination,
        r.lane,
        r.hour,
        max(r.all_leads) as leads,
        -- The last bucket has no end: what is in it took at least as long as the last edge.
        min(coalesce(e.edge, 10000000)) filter (where r.so_far >= 0.5 * r.all_leads) as p50_seconds,
        min(coalesce(e.edge, 10000000)) filter (where r.so_far >= 0.95 * r.all_leads) as p95_seconds
    from ranked as r
    left join edges as e on r.bucket = e.bucket
    group by r.tenant, r.stage, r.destination, r.lane, r.hour
),

spans as (
    select
        tenant,
        stage,
        destination,
        lane,
        hour,
        sum(leads) * 60.0 / max(span_seconds) as leads_per_minute
    from histograms
    group by tenant, stage, destination, lane, hour, began_at
),

busiest as (
    select
        tenant,
        stage,
        destination,
        lane,
        hour,
        max(leads_per_minute) as busiest_minute
    from spans
    group by tenant, stage, destination, lane, hour
)

select
    h.tenant || ' ' || h.stage || ' ' || h.destination || ' ' || h.lane || ' '
    || to_char(h.hour at time zone 'UTC', 'YYYY-MM-DD"T"HH24') as stage_hour_key,
    h.tenant,
    h.stage,
    h.destination,
    h.lane,
    h.hour,
    {{ day_of('h.hour') }} as day,
    h.leads::bigint as leads,
    -- Minutes are told apart for two days: what was known of them then is kept.
    greatest(round(b.busiest_minute, 2){% if continues() %}, t.busiest_minute{% endif %}) as busiest_minute,
    h.p50_seconds,
    h.p95_seconds,
    now() as built_at
from hours as h
inner join busiest as b
    on
        h.tenant = b.tenant
        and h.stage = b.stage
        and h.destination = b.destination
        and h.lane = b.lane
        and h.hour = b.hour
{% if continues() -%}
left join {{ this }} as t
    on
        h.tenant = t.tenant
        and h.stage = t.stage
        and h.destination = t.destination
        and h.lane = t.lane
        and h.hour = t.hour
        and {{ happened_in('t.hour', days) }}
{%- endif %}
