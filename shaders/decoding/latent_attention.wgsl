// Attention of a few tokens over a cache of latents, which are keys and values at once: the part of span_attention.wgsl, which follows, that reads
// the cache.
//
// ql [tokens, heads·RANK] (queries brought into the latent space), q [tokens, heads·(NOPE+ROPE)] of which the rotated columns are
// read, c_kv [rows, RANK], kr [rows, ROPE]. Widths RANK4, NOPE4, ROPE4 in vec4s.

{% set WIDTH4 = RANK4 %}
{% macro begin() %}
{% for h in range(HEADS) %}
  let ql_at{{ h }} = (token * params.heads + head + {{ h }}u) * RANK4;
  let q_at{{ h }} = (token * params.heads + head + {{ h }}u) * (NOPE4 + ROPE4) + NOPE4;
{% endfor %}
{% endmacro %}
{% macro add_products(row) %}
    for (var d = 0u; d < RANK4; d++) {
      let key = load_c_kv({{ row }} * RANK4 + d);
{% for h in range(HEADS) %}
      dots{{ h }} = fma(load_ql(ql_at{{ h }} + d), key, dots{{ h }});
{% endfor %}
    }
    for (var d = 0u; d < ROPE4; d++) {
      let key = load_kr({{ row }} * ROPE4 + d);
{% for h in range(HEADS) %}
      dots{{ h }} = fma(load_q(q_at{{ h }} + d), key, dots{{ h }});
{% endfor %}
    }
{% endmacro %}
{% macro values_at(row) %}{{ row }} * RANK4{% endmacro %}
{% macro load_values(at) %}load_c_kv({{ at }}){% endmacro %}
