{#- The role exists only where the user of the schema's upgrade may create roles; without it the marts are still built. -#}
{% macro grant_select_to_analysts() %}
do $$ begin
    if exists (select from pg_roles where rolname = 'leads_analyst') then
        grant usage on schema {{ this.schema }} to leads_analyst;
        grant select on {{ this }} to leads_analyst;
    end if;
end $$
{% endmacro %}
