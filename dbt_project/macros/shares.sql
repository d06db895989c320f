{#- A share, or nothing where there is nothing to share. -#}
{% macro share(part, whole) -%}
round({{ part }}::numeric / nullif({{ whole }}, 0), 4)
{%- endmacro %}
