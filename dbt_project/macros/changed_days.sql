{#- Marts of days are built of the days that may have changed, not of all history: the last days, and older ones in
    which something happened since the mart was last built. Ids of version 7 begin with the millisecond in which they were
    made, and rooms are partitioned by them: a range of ids is a range of time that PostgreSQL finds by an index. -#}

{#- The smallest id that can be made at an instant. -#}
{% macro first_id_at(instant) -%}
(lpad(to_hex((extract(epoch from {{ instant }}) * 1000)::bigint), 12, '0') || '70008000000000000000')::uuid
{%- endmacro %}

{#- The instant in which an id was made. -#}
{% macro instant_of(id) -%}
to_timestamp(('x' || left(replace({{ id }}::text, '-', ''), 12))::bit(48)::bigint / 1000.0)
{%- endmacro %}

{% macro day_of(instant) -%}
({{ instant }} at time zone 'UTC')::date
{%- endmacro %}

{#- Whether this build adds to what is there. A table from before its columns were these is built anew instead. -#}
{% macro continues(needed='built_at') -%}
    {%- if not is_incremental() -%}{{ return(false) }}{%- endif -%}
    {%- set columns = adapter.get_columns_in_relation(this) | map(attribute='name') | list -%}
    {{ return(needed in columns) }}
{%- endmacro %}

{#- The smallest id that rows may bear which the last build did not see. -#}
{% macro first_id_since_last_built() -%}
{{ first_id_at("greatest(" ~ last_built() ~ ", timestamptz 'epoch')") }}
{%- endmacro %}

{#- Since when rows may have come that the last build did not see: what it began with, less the longest transaction. -#}
{% macro last_built(relation=none) -%}
coalesce(
    (select max(built_at) from {{ relation or this }}) - interval '{{ var("longest_transaction_minutes") }} minutes',
    '-infinity'::timestamptz
)
{%- endmacro %}

{#- The days to build, as pairs of a first day and the one after the last; none: all of them. Those are the last days and
    all since the last build, however long ago that was. `touched` selects, as `day`, older ones in which something
    happened; `needed` is a column without which the table is from before this version. -#}
{% macro days_to_build(touched='select null::date as day', lookback=none, needed='built_at') -%}
    {%- if not (execute and continues(needed)) -%}{{ return(none) }}{%- endif -%}
    {%- set recent = day_of('now()') ~ " - " ~ (var('lookback_days') if lookback is none else lookback) -%}
    {%- set found = run_query(
        "with days as (select day from (" ~ touched ~ ") as touched where day is not null union "
        ~ "select generate_series(least(" ~ recent ~ ", (select " ~ day_of('max(built_at)') ~ " from " ~ this ~ ")), "
        ~ day_of('now()') ~ " + 1, interval '1 day')::date), "
        ~ "islands as (select day, day - row_number() over (order by day)::int as island from days) "
        ~ "select min(day)::text, (max(day) + 1)::text from islands group by island order by 1"
    ) -%}
    {{ return(found.rows | map('list') | list) }}
{%- endmacro %}

{#- A condition that holds for what was made in these days, and by an hour before or after: for ids. -#}
{% macro made_in(id, days) -%}
    {%- if days is none -%}true
    {%- else -%}
(
    {%- for first, end in days %}
    {%- if not loop.first %} or {% endif %}
    {{ id }} >= {{ first_id_at("timestamptz '" ~ first ~ " 00:00+00' - interval '1 hour'") }}
    and {{ id }} < {{ first_id_at("timestamptz '" ~ end ~ " 00:00+00' + interval '1 hour'") }}
    {%- endfor %}
)
    {%- endif -%}
{%- endmacro %}

{#- A condition that holds for instants in these days, fit for an index. -#}
{% macro happened_in(instant, days) -%}
    {%- if days is none -%}true
    {%- else -%}
(
    {%- for first, end in days %}
    {%- if not loop.first %} or {% endif %}
    {{ instant }} >= timestamptz '{{ first }} 00:00+00' and {{ instant }} < timestamptz '{{ end }} 00:00+00'
    {%- endfor %}
)
    {%- endif -%}
{%- endmacro %}

{#- The same for dates. -#}
{% macro on_days(date, days) -%}
    {%- if days is none -%}true
    {%- else -%}
(
    {%- for first, end in days %}
    {%- if not loop.first %} or {% endif %}
    {{ date }} >= date '{{ first }}' and {{ date }} < date '{{ end }}'
    {%- endfor %}
)
    {%- endif -%}
{%- endmacro %}

{#- Which leads reached a destination for the first time since an instant. A request may be answered days after it was
    sent, as a bulk job is. -#}
{% macro first_deliveries(since) -%}
select
    d.lead_id,
    d.tenant,
    d.golden_version,
    a.contact_id,
    a.outbox_id,
    a.destination,
    a.settled_at as delivered_at
from {{ ref('stg_crm_requests') }} as r
inner join {{ ref('stg_sync_attempts') }} as a on r.batch_id = a.batch_id
inner join {{ ref('stg_deduped_leads') }} as d on a.contact_id = d.contact_id and a.version >= d.golden_version
where
    r.sent_at >= {{ since }} - interval '{{ var("longest_request_days") }} days'
    and a.verdict = 'delivered'
    and a.settled_at >= {{ since }}
    and not exists (
        select from {{ ref('stg_sync_attempts') }} as e
        where
            e.contact_id = a.contact_id
            and e.outbox_id = a.outbox_id
            and e.verdict = 'delivered'
            and e.version >= d.golden_version
            and (e.settled_at, e.batch_id) < (a.settled_at, a.batch_id)
    )
{%- endmacro %}
