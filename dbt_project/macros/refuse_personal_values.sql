{#- Runs after each mart is built, within its transaction: a mart that shows a whole address or number is not built. New
    marts are covered as they come. What is read is what was built, so that it does not matter where it came from. -#}
{% macro refuse_personal_values() %}
do $$
declare
    shown text;
    found boolean;
begin
    for shown in
        select quote_ident(a.attname)
        from pg_attribute as a
        where a.attrelid = '{{ this }}'::regclass and a.attnum > 0 and not a.attisdropped
            and a.atttypid in ('text'::regtype, 'varchar'::regtype, 'json'::regtype, 'jsonb'::regtype, 'text[]'::regtype)
    loop
        execute format(
            'select exists (select from {{ this }} where %s::text ~* $p$[^\s*@",{}]{2,}@[^\s*@",{}]+\.[a-z]|\+[0-9]{7,}$p$)',
            shown
        ) into found;
        if found then
            raise exception '{{ this.identifier }}.% shows an e-mail address or a phone number unmasked', shown;
        end if;
    end loop;
end $$
{% endmacro %}
