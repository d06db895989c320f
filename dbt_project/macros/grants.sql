{#- The role exists only where the user of the schema's upgrade may create roles; without it the marts are still built. -#}
{% macro grant_select_to_analysts() %}
do $$ begin
    if exists (select from pg_roles where rolname = 'leads_analyst') then
        grant select on {{ this }} to leads_analyst;
    end if;
end $$
{% endmacro %}

{#- Once, at the end: models that are built at the same time would all change the schema's one row, and all but one fail. -#}
{% macro grant_usage_to_analysts(schemas) %}
do $$ begin
    if exists (select from pg_roles where rolname = 'leads_analyst') then
        {% for schema in schemas %}
        grant usage on schema {{ schema }} to leads_analyst;
        {% endfor %}
    end if;
end $$
{% endmacro %}
