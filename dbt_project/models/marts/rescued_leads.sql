{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='sync_all_columns',
    indexes=[{'columns': ['lead_id'], 'unique': true}, {'columns': ['tenant', 'captured_on']}]
) }}

{#- Only deliveries since the last build are looked at, and a lead that stands here is not counted again. When that was, the
    mart behind this one knows: here a build may add nothing. -#}
{%- set behind = adapter.get_relation(this.database, this.schema, 'loss_avoided') if continues() else none -%}
{%- set since = last_built(behind) if behind is not none else "'-infinity'::timestamptz" -%}

{%- set refusals = "('throttled', 'transient', 'auth', 'locked', 'ambiguous')" -%}

with delivered as materialized (
    {{ first_deliveries(since) }}
),

-- Few leads were refused: only their attempts are looked at.
refused as materialized (
    select * from delivered as d
    where exists (
        select from {{ ref('stg_sync_attempts') }} as f
        where f.contact_id = d.contact_id and f.outbox_id = d.outbox_id and f.verdict in {{ refusals }}
    )
),

-- The first time that the lead was sent to that destination. A form sends once: what its answer says is final.
tried as (
    select distinct on (d.lead_id, d.outbox_id)
        d.lead_id,
        d.tenant,
        d.destination,
        d.delivered_at,
        a.verdict as first_verdict,
        a.sent_at as first_sent_at
    from refused as d
    inner join {{ ref('stg_sync_attempts') }} as a
        on d.contact_id = a.contact_id and d.outbox_id = a.outbox_id and a.version >= d.golden_version
    order by d.lead_id asc, d.outbox_id asc, a.sent_at asc, a.batch_id asc
),

-- Once a lead, although several destinations may have refused it at first.
rescued as (
    select distinct on (lead_id) *
    from tried
    where first_verdict in {{ refusals }}
    order by lead_id asc, first_sent_at asc, destination asc
)

select
    r.lead_id,
    r.tenant,
    l.source,
    {{ day_of('l.received_at') }} as captured_on,
    r.destination,
    r.first_verdict as refused_as,
    r.first_sent_at as refused_at,
    r.delivered_at,
    round(extract(epoch from r.delivered_at - r.first_sent_at), 3) as seconds_to_rescue,
    now() as built_at
from rescued as r
inner join {{ ref('stg_captured_leads') }} as l on r.lead_id = l.lead_id
{% if continues() -%}
where not exists (select from {{ this }} as known where known.lead_id = r.lead_id)
{%- endif %}
