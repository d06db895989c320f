{#- What an analyst may see of a value: enough to recognise one's own test record, too little to reach the person. -#}

{% macro masked_email(email, domain_is_common) -%}
left({{ email }}, 1) || '***@' || case when {{ domain_is_common }} then split_part({{ email }}, '@', 2) else '***' end
{%- endmacro %}

{% macro last_digits(phone) -%}
'***' || right({{ phone }}, 3)
{%- endmacro %}

{% macro initial(name) -%}
upper(left({{ name }}, 1)) || '.'
{%- endmacro %}
