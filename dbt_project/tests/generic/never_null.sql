{#- No column is null but those in `but`. One scan for all of them, and one asset check; a failure names the columns. -#}
{% test never_null(model, but=[]) %}
{%- set columns = adapter.get_columns_in_relation(model) | map(attribute='name') | reject('in', but) | list if execute else [] %}
select
    told.name,
    told.nulls
from (
    select
        {%- for column in columns %}
        count(*) filter (where {{ column }} is null) as {{ column }}{{ "," if not loop.last }}
        {%- endfor %}
    from {{ model }}
) as counted
cross join lateral (
    values
    {%- for column in columns %}
    ('{{ column }}', counted.{{ column }}){{ "," if not loop.last }}
    {%- endfor %}
) as told (name, nulls)
where told.nulls > 0
{% endtest %}
