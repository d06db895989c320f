{#- Runs after each mart is built, within its transaction: a mart that shows a whole address or number is not built. New
    marts are covered as they come. What is read is what was built, so that it does not matter where it came from. One scan
    of all columns; only a mart that is refused is read again, to name the one. -#}
{% macro refuse_personal_values() %}
do $$
declare
    -- Lines: each value is one, and its end is a line's.
    personal constant text := '(?n)[^\s*@",{}]{2,}@[^\s*@",{}]+\.[a-z]|\+[0-9]{7,}$';
    shown text[];
    column_name text;
    found boolean;
begin
    select coalesce(array_agg(quote_ident(a.attname)), '{}') into shown
    from pg_attribute as a
    where a.attrelid = '{{ this }}'::regclass and a.attnum > 0 and not a.attisdropped
        and a.atttypid in ('text'::regtype, 'varchar'::regtype, 'json'::regtype, 'jsonb'::regtype, 'text[]'::regtype);
    execute format(
        'select exists (select from {{ this }} where concat_ws(e''\n'', null, %s) ~* $1)',
        array_to_string(array_append(shown, 'null'), ', ')
    ) into found using personal;
    if not found then
        return;
    end if;
    foreach column_name in array shown loop
        execute format('select exists (select from {{ this }} where %s::text ~* $1)', column_name)
            into found using personal;
        if found then
            raise exception '{{ this.identifier }}.% shows an e-mail address or a phone number unmasked', column_name;
        end if;
    end loop;
    raise exception '{{ this.identifier }} shows an e-mail address or a phone number unmasked';
end $$
{% endmacro %}
