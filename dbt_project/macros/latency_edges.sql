{#- The upper edges of the buckets of latency_histograms in seconds, as leads_pipeline/domain/latency.py has them. -#}
{% macro latency_edges() -%}
    {%- set edges = [45.0, 75.0, 450.0, 2700.0, 7200.0, 14400.0, 28800.0, 43200.0, 86400.0, 172800.0, 259200.0, 604800.0] -%}
    {%- for decade in range(-1, 7) -%}
        {%- for step in range(100, 200, 10) | list + range(200, 500, 20) | list + range(500, 1000, 50) | list -%}
            {%- do edges.append(step * 10 ** decade / 100) -%}
        {%- endfor -%}
    {%- endfor -%}
    {{ return(edges | unique | sort) }}
{%- endmacro %}

{#- For the test that holds the two lists together. -#}
{% macro check_latency_edges(edges) -%}
    {%- if latency_edges() | list != edges -%}
        {{ exceptions.raise_compiler_error("the edges of the buckets are not those of the marts") }}
    {%- endif -%}
{%- endmacro %}
