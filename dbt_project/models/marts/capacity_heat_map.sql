{#- What was done in the last weeks, laid over each other by hour of the week. Hours in which nothing was measured count
    as hours without leads, as long as something was being measured before them. -#}
{%- set since = day_of('now()') ~ " - " ~ (7 * var('capacity_weeks')) -%}

with measured as (
    select * from {{ ref('stage_hours') }}
    where day >= {{ since }} and hour < date_trunc('hour', now())
),

began as (
    select min(hour) as hour from measured
),

hours as (
    select
        extract(isodow from h at time zone 'UTC')::int as weekday,
        extract(hour from h at time zone 'UTC')::int as hour_of_day,
        count(*) as hours_observed
    from began
    cross join lateral generate_series(began.hour, date_trunc('hour', now()) - interval '1 hour', interval '1 hour') as h
    group by 1, 2
),

served as (
    select
        tenant,
        stage,
        destination,
        extract(isodow from hour at time zone 'UTC')::int as weekday,
        extract(hour from hour at time zone 'UTC')::int as hour_of_day,
        sum(leads) as leads,
        max(p95_seconds) as worst_p95_seconds
    from measured
    group by 1, 2, 3, 4, 5
),

-- What a stage has done in its busiest minute, all lanes of a lane's hour together: it can do at least that.
capacities as (
    select
        tenant,
        stage,
        destination,
        max(busiest_minute) as per_minute
    from measured
    group by tenant, stage, destination
),

captured as (
    select
        c.tenant,
        extract(isodow from c.committed_at at time zone 'UTC')::int as weekday,
        extract(hour from c.committed_at at time zone 'UTC')::int as hour_of_day,
        sum(c.captured) as leads
    from {{ ref('stg_captures') }} as c
    inner join began on c.committed_at >= began.hour
    where c.committed_at >= ({{ since }})::timestamp at time zone 'UTC' and c.committed_at < date_trunc('hour', now())
    group by 1, 2, 3
),

-- A stage's arrivals are what the one before it let go of in that hour.
chain (stage, fed_by, place) as (
    values
    ('raw_leads', null, 1),
    ('validated_leads', 'raw_leads', 2),
    ('verified', 'validated_leads', 3),
    ('deduped_leads', 'verified', 4),
    ('golden_contacts', 'deduped_leads', 5),
    ('delivered', 'golden_contacts', 6)
),

arrived as (
    select
        c.tenant,
        t.stage,
        c.weekday,
        c.hour_of_day,
        c.leads
    from captured as c
    inner join chain as t on t.fed_by is null
    union all
    select
        s.tenant,
        t.stage,
        s.weekday,
        s.hour_of_day,
        s.leads
    from served as s
    inner join chain as t on s.stage = t.fed_by
),

cells as (
    select
        k.tenant,
        k.stage,
        k.destination,
        k.per_minute,
        h.weekday,
        h.hour_of_day,
        h.hours_observed
    from capacities as k
    cross join hours as h
)

select
    c.tenant || ' ' || c.stage || ' ' || c.destination || ' ' || c.weekday || ' ' || c.hour_of_day as cell_key,
    c.tenant,
    c.stage,
    c.destination,
    t.place as stage_place,
    c.weekday,
    c.hour_of_day,
    c.hours_observed,
    round(coalesce(a.leads, 0) / (60.0 * c.hours_observed), 3) as arrivals_per_minute,
    round(coalesce(s.leads, 0) / (60.0 * c.hours_observed), 3) as served_per_minute,
    round(c.per_minute, 3) as capacity_per_minute,
    round(coalesce(a.leads, 0) / (60.0 * c.hours_observed) / nullif(c.per_minute, 0), 4) as load,
    s.worst_p95_seconds
from cells as c
left join chain as t on c.stage = t.stage
left join arrived as a
    on c.tenant = a.tenant and c.stage = a.stage and c.weekday = a.weekday and c.hour_of_day = a.hour_of_day
left join served as s
    on
        c.tenant = s.tenant
        and c.stage = s.stage
        and c.destination = s.destination
        and c.weekday = s.weekday
        and c.hour_of_day = s.hour_of_day
