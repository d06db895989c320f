{#- What a lead costs comes from leads.yaml; see analytics.cost_per_lead. Nothing is assumed where it says nothing. -#}
{%- set costs = fromjson(env_var('LEADS_DBT_COST_PER_LEAD', '[]')) -%}

with costs (tenant, source, cost, currency) as (
    values
    (null::text, null::text, null::numeric, null::text)
    {%- for item in costs %},
    ('{{ item.tenant }}', {{ "'" ~ item.source ~ "'" if item.source else "null" }}, {{ item.cost }}, '{{ item.currency }}')
    {%- endfor %}
),

rescued as (
    select
        tenant,
        source,
        captured_on,
        count(*) as rescued_leads,
        count(*) filter (where refused_as = 'throttled') as rescued_from_limits,
        count(*) filter (where refused_as in ('transient', 'ambiguous')) as rescued_from_outages,
        count(*) filter (where refused_as = 'auth') as rescued_from_credentials,
        count(*) filter (where refused_as = 'locked') as rescued_from_locks
    from {{ ref('rescued_leads') }}
    group by tenant, source, captured_on
),

days_of_sources as (
    select tenant, source, captured_on from {{ ref('source_quality') }}
    union
    select tenant, source, captured_on from rescued
)

select
    d.tenant || ' ' || d.source || ' ' || d.captured_on as loss_key,
    d.tenant,
    d.source,
    d.captured_on,
    coalesce(q.captured, 0) as captured,
    coalesce(r.rescued_leads, 0) as rescued_leads,
    coalesce(r.rescued_from_limits, 0) as rescued_from_limits,
    coalesce(r.rescued_from_outages, 0) as rescued_from_outages,
    coalesce(r.rescued_from_credentials, 0) as rescued_from_credentials,
    coalesce(r.rescued_from_locks, 0) as rescued_from_locks,
    coalesce(q.reposts, 0) as reposts_recognised,
    coalesce(q.joined_known_contact, 0) as duplicates_merged,
    coalesce(own.cost, whole.cost) as cost_per_lead,
    coalesce(own.currency, whole.currency) as currency,
    coalesce(r.rescued_leads, 0) * coalesce(own.cost, whole.cost) as cost_of_loss_avoided,
    now() as built_at
from days_of_sources as d
left join {{ ref('source_quality') }} as q
    on d.tenant = q.tenant and d.source = q.source and d.captured_on = q.captured_on
left join rescued as r on d.tenant = r.tenant and d.source = r.source and d.captured_on = r.captured_on
left join costs as own on d.tenant = own.tenant and d.source = own.source
left join costs as whole on d.tenant = whole.tenant and whole.source is null
