{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key='day',
    on_schema_change='sync_all_columns',
    indexes=[{'columns': ['day']}, {'columns': ['tenant', 'day']}]
) }}

{#- Of older days, those of which a decision was taken back or a review was decided. -#}
{%- set days = days_to_build(
    "select " ~ day_of(instant_of('undoes')) ~ " as day from " ~ source('leads', 'merge_log')
    ~ " where undoes is not null and merge_id >= " ~ first_id_since_last_built()
    ~ " union select " ~ day_of('opened_at') ~ " from " ~ ref('stg_match_reviews')
    ~ " where decided_at >= " ~ last_built()
) -%}

with decisions as (
    select
        m.tenant,
        m.decider,
        {{ day_of('m.merged_at') }} as day,
        count(*) filter (where m.kind = 'join') as joins,
        count(*) filter (where m.kind = 'merge') as merges,
        count(*) filter (where m.kind in ('move', 'split')) as regrouped,
        count(*) filter (where m.kind in ('link', 'unlink')) as rulings,
        count(*) filter (where m.kind = 'undo') as undos,
        count(*) filter (where m.kind in ('join', 'merge') and u.merge_id is not null) as taken_back
    from {{ ref('stg_identity_decisions') }} as m
    -- Few decisions take one back: by the index that has only those.
    left join {{ ref('stg_identity_decisions') }} as u on m.merge_id = u.undoes and u.undoes is not null
    where {{ made_in('m.merge_id', days) }} and {{ happened_in('m.merged_at', days) }}
    group by 1, 2, 3
),

reviews as (
    select
        tenant,
        decider,
        {{ day_of('opened_at') }} as day,
        count(*) as reviews,
        count(*) filter (where state = 'open') as reviews_open,
        count(*) filter (where state = 'accepted') as reviews_accepted,
        count(*) filter (where state = 'rejected') as reviews_rejected,
        count(*) filter (where state = 'closed') as reviews_closed,
        count(*) filter (where cause = 'refused') as conflicts
    from {{ ref('stg_match_reviews') }}
    where {{ happened_in('opened_at', days) }}
    group by 1, 2, 3
),

keys as (
    select tenant, decider, day from decisions
    union
    select tenant, decider, day from reviews
)

select
    k.tenant || ' ' || k.decider || ' ' || k.day as identity_key,
    k.tenant,
    k.day,
    k.decider,
    case when split_part(k.decider, ':', 1) in ('rule', 'model') then split_part(k.decider, ':', 1) else 'person' end
        as decided_by,
    coalesce(d.joins, 0) as joins,
    coalesce(d.merges, 0) as merges,
    coalesce(d.regrouped, 0) as regrouped,
    coalesce(d.rulings, 0) as rulings,
    coalesce(d.undos, 0) as undos,
    coalesce(d.taken_back, 0) as taken_back,
    coalesce(r.reviews, 0) as reviews,
    coalesce(r.reviews_open, 0) as reviews_open,
    coalesce(r.reviews_accepted, 0) as reviews_accepted,
    coalesce(r.reviews_rejected, 0) as reviews_rejected,
    coalesce(r.reviews_closed, 0) as reviews_closed,
    coalesce(r.conflicts, 0) as conflicts,
    {{ share('coalesce(d.taken_back, 0)', '(d.joins + d.merges)') }} as taken_back_rate,
    {{ share('coalesce(r.reviews, 0)', '(coalesce(d.joins, 0) + coalesce(d.merges, 0) + coalesce(r.reviews, 0))') }}
        as review_rate,
    {{ share('coalesce(r.conflicts, 0)', '(coalesce(d.joins, 0) + coalesce(d.merges, 0) + coalesce(r.reviews, 0))') }}
        as conflict_rate,
    now() as built_at
from keys as k
left join decisions as d on k.tenant = d.tenant and k.decider = d.decider and k.day = d.day
left join reviews as r on k.tenant = r.tenant and k.decider = r.decider and k.day = r.day
