// Attention of a few tokens over a cache of keys and values: the part of span_attention.wgsl, which follows, that reads the cache.
//
// q [tokens, heads·D], kv [rows, kv_heads·2·D], per head [k | v]; query head h reads head h / (heads / kv_heads) of it. Width D4 in vec4s.

{% set WIDTH4 = D4 %}
{% macro begin() %}
{% for h in range(HEADS) %}
  let q_at{{ h }} = (token * params.heads + head + {{ h }}u) * D4;
{% endfor %}
  let kv_at = head / (params.heads / params.kv_heads) * 2u * D4;
  let row_step = params.kv_heads * 2u * D4;
{% endmacro %}
{% macro add_products(row) %}
    let keys = {{ row }} * row_step + kv_at;
    for (var d = 0u; d < D4; d++) {
      let key = load_kv(keys + d);
{% for h in range(HEADS) %}
      dots{{ h }} = fma(load_q(q_at{{ h }} + d), key, dots{{ h }});
{% endfor %}
    }
{% endmacro %}
{% macro values_at(row) %}{{ row }} * row_step + kv_at + D4{% endmacro %}
{% macro load_values(at) %}load_kv({{ at }}){% endmacro %}
