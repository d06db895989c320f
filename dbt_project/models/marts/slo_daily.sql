{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key='day',
    on_schema_change='sync_all_columns',
    indexes=[{'columns': ['day']}, {'columns': ['slo', 'tenant', 'lane', 'day']}]
) }}

{#- Evaluations come by the clock: none is added to a day that is over. After two days only the changes, the worst and the
    last of each hour are left, so older days are not made anew: what was counted while all were there stands. -#}
{%- set days = days_to_build(lookback=1) -%}

with evaluations as (
    select
        *,
        {{ day_of('evaluated_at') }} as day,
        case verdict when 'broken' then 3 when 'burning' then 2 when 'kept' then 1 else 0 end as badness
    from {{ ref('stg_slo_evaluations') }}
    where {{ happened_in('evaluated_at', days) }}
),

of_days as (
    select
        slo,
        tenant,
        lane,
        day,
        count(*) as evaluations,
        count(*) filter (where verdict in ('burning', 'broken')) as evaluations_not_kept,
        max(badness) as worst,
        max(burn_rate) as worst_burn_rate,
        min(budget_left) as least_budget_left,
        max(evaluated_at) as evaluated_at
    from evaluations
    group by slo, tenant, lane, day
)

select
    d.slo || ' ' || coalesce(nullif(d.tenant, ''), '*') || ' ' || coalesce(nullif(d.lane, ''), '*') || ' '
    || d.day as slo_key,
    d.slo,
    d.tenant,
    d.lane,
    d.day,
    case d.worst when 3 then 'broken' when 2 then 'burning' when 1 then 'kept' else 'no_data' end as verdict,
    e.verdict as verdict_at_end,
    e.good,
    e.bad,
    e.value,
    e.budget_left,
    d.least_budget_left,
    d.worst_burn_rate,
    d.evaluations,
    d.evaluations_not_kept,
    d.evaluated_at,
    now() as built_at
from of_days as d
inner join evaluations as e
    on
        d.slo = e.slo
        and d.tenant = e.tenant
        and d.lane = e.lane
        and d.evaluated_at = e.evaluated_at
