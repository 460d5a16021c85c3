// Gradients of causal attention by products of blocks; equations, bindings and layouts as in attention_backward_direct.wgsl, blocks as in
// attention_blocks.wgsl.
//
// A workgroup owns OWN rows of a head, with their gradients in registers: queries (SIDE "query") or keys with their values (SIDE "key"). For each block of
// OTHER rows of the other side it computes the scores, writes p to workgroup memory and (keys) adds pᵀ d_o to the gradient of v; then it computes
// d_o vᵀ, writes ds over p and adds its product with the other side's rows to the gradient of q or k. p waits in workgroup memory, so one
// block of scores is in registers at a time. Blocks beyond the diagonal are left out, those on it masked. Bound by products, with three vec4 from
// workgroup memory for 32 of them (OWN_QUADS 2; four for 64 in the gradients of wide rows), and by registers.
//
// DROPOUT (SIDE "key"): workgroup memory has p times the factors, so p itself waits in registers.
//
// Pages: scores, then the buffers that all products share.

{% set widths = (NOPE4 + ROPE4 + 15) // 16 %}
{% set values = (V4 + 15) // 16 %}
{% if SIDE == "query" %}{% set own_a = "query" %}{% set own_b = "upstream" %}{% set other_a = "key" %}{% set other_b = "value" %}
{% else %}{% set own_a = "key" %}{% set own_b = "value" %}{% set other_a = "query" %}{% set other_b = "upstream" %}{% endif %}
{# A number for each of four queries. #}
{% macro statistic(name, at) %}vec4f({% for n in range(4) %}{{ name }}[statistics + min({{ at }} + {{ n }}u, params.length - 1u)]{{ ", " if n < 3 }}{% endfor %}){% endmacro %}
fn upstream(token: u32, head: u32, d: u32) -> Raw {
{% if V4 % 16 %}
  if (d >= V4) { return Raw(); }
{% endif %}
  return d_o[(token * params.heads + head) * V4 + d];
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let work = workgroup_number(id, count);
  // The rows with the most work start first: late queries, early keys.
{% if SIDE == "query" %}
  let top = (params.blocks - 1u - work % params.blocks) * OWN;
{% else %}
  let top = work % params.blocks * OWN;
{% endif %}
  let head = work / params.blocks % params.heads;
  let sequence = work / params.blocks / params.heads;
  // The whole workgroup leaves together, so the barriers below stay uniform.
  if (sequence >= params.batch) { return; }
  let first = sequence * params.length;
  let statistics = head * params.batch * params.length + first;
{{ declare(FETCHES) }}
{% for r in range(4 * OWN_QUADS) %}
{% for c in range(widths) %}
  var da{{ r }}_{{ c }} = vec4f();
{% endfor %}
{% if SIDE == "key" %}{% for c in range(values) %}
  var db{{ r }}_{{ c }} = vec4f();
{% endfor %}{% endif %}
{% endfor %}
{% for i in range(OWN_QUADS) %}
  let row{{ i }} = top + 4u * y + {{ 4 * DOWN * i }}u;
{% endfor %}
{% if DROPOUT and SIDE == "query" %}{% for r in range(4 * OWN_QUADS) %}
  let start{{ r }} = vec4u(dropout_row(statistics + row{{ r // 4 }} + {{ r % 4 }}u));
{% endfor %}{% endif %}
{% if SIDE == "query" %}
  let begin = 0u;
  let end = min(top + OWN, params.length);
{% else %}
  let begin = top / OTHER * OTHER;
  let end = params.length;
{% endif %}
{{ fetch_rows(own_a, other_a, "begin", "0u") }}
  for (var j = begin; j < end; j += OTHER) {
{% set then_dp = fetch_rows(own_b, other_b, "j", "0u") %}
{{ multiply_rows("s", own_a, other_a, NOPE4 + ROPE4, BUFFER, fetch_block(other_b, values, "j", "0u") if SIDE == "key" else then_dp) }}
{% for c in range(OTHER_QUADS) %}
    let column{{ c }} = j + 4u * x + {{ 64 * c }}u;
{% if SIDE == "key" %}
    let log_sum{{ c }} = {{ statistic("log_sum", "column" ~ c) }};
{% endif %}
{% endfor %}
{% for r in range(4 * OWN_QUADS) %}
{% if SIDE == "query" %}
    let log_sum{{ r }} = log_sum[statistics + min(row{{ r // 4 }} + {{ r % 4 }}u, params.length - 1u)];
{% endif %}
{% for c in range(OTHER_QUADS) %}
    s{{ r }}_{{ c }} = exp(s{{ r }}_{{ c }} * params.scale - log_sum{{ r if SIDE == "query" else c }});
{% endfor %}
{% endfor %}
{% if SIDE == "query" %}
    if (j + OTHER > top + 1u) {
{% else %}
    if (j < top + OWN || j + OTHER > params.length) {
{% endif %}
{% for c in range(OTHER_QUADS) %}
      let columns{{ c }} = column{{ c }} + vec4u(0u, 1u, 2u, 3u);
{% for r in range(4 * OWN_QUADS) %}
{% if SIDE == "query" %}
      s{{ r }}_{{ c }} = select(vec4f(), s{{ r }}_{{ c }}, columns{{ c }} <= vec4u(row{{ r // 4 }} + {{ r % 4 }}u));
{% else %}
      s{{ r }}_{{ c }} = select(vec4f(), s{{ r }}_{{ c }}, (columns{{ c }} >= vec4u(row{{ r // 4 }} + {{ r % 4 }}u)) & (columns{{ c }} < vec4u(params.length)));
{% endif %}
{% endfor %}
{% endfor %}
    }
{% if DROPOUT %}
{% for c in range(OTHER_QUADS) %}
{% if SIDE == "key" %}
    let start{{ c }} = dropout_rows(statistics + column{{ c }} + vec4u(0u, 1u, 2u, 3u));
{% endif %}
{% for r in range(4 * OWN_QUADS) %}
    let f{{ r }}_{{ c }} = {% if SIDE == "query" %}dropout_factors(start{{ r }}, column{{ c }} + vec4u(0u, 1u, 2u, 3u)){% else %}dropout_factors(start{{ c }}, vec4u(row{{ r // 4 }} + {{ r % 4 }}u)){% endif %};
{% if SIDE == "key" %}
    let kept{{ r }}_{{ c }} = s{{ r }}_{{ c }} * f{{ r }}_{{ c }};
{% endif %}
{% endfor %}
{% endfor %}
{% endif %}
{{ put_scores("kept" if DROPOUT and SIDE == "key" else "s") }}
{% if SIDE == "key" %}
{{ multiply_scores("db", other_b, values, BUFFER, then_dp) }}
{% endif %}
{{ multiply_rows("dp", own_b, other_b, V4, BUFFER, fetch_block(other_a, widths, "j", "0u")) }}
{% if SIDE == "key" %}{% for c in range(OTHER_QUADS) %}
    let delta{{ c }} = {{ statistic("delta", "column" ~ c) }};
{% endfor %}{% endif %}
{% for r in range(4 * OWN_QUADS) %}
{% if SIDE == "query" %}
    let delta{{ r }} = delta[statistics + min(row{{ r // 4 }} + {{ r % 4 }}u, params.length - 1u)];
{% endif %}
{% for c in range(OTHER_QUADS) %}
    dp{{ r }}_{{ c }} = ({{ "f" ~ r ~ "_" ~ c ~ " * " if DROPOUT else "" }}dp{{ r }}_{{ c }} - delta{{ r if SIDE == "query" else c }}) * params.scale;
{% endfor %}
{% endfor %}
{% if DROPOUT and SIDE == "key" %}
{% for r in range(4 * OWN_QUADS) %}{% for c in range(OTHER_QUADS) %}
    dp{{ r }}_{{ c }} *= s{{ r }}_{{ c }};
{% endfor %}{% endfor %}
{{ put_scores("dp") }}
{% else %}
{% for i in range(OWN_QUADS) %}{% for c in range(OTHER_QUADS) %}{% for n in range(4) %}
    {{ score_at(i, c, n) }} *= vec4f({% for r in range(4) %}dp{{ 4 * i + r }}_{{ c }}[{{ n }}]{{ ", " if r < 3 }}{% endfor %});
{% endfor %}{% endfor %}{% endfor %}
{% endif %}
{{ multiply_scores("da", other_a, widths, BUFFER, fetch_rows(own_a, other_a, "j + OTHER", "0u")) }}
  }
{% for r in range(4 * OWN_QUADS) %}
  {
    let row = row{{ r // 4 }} + {{ r % 4 }}u;
    if (row < params.length) {
      let to = (first + row) * params.heads + head;
{% for c in range(widths) %}
      {
        let d = x + {{ 16 * c }}u;
{% if SIDE == "query" %}
        if (d < QK4) { store_d_q(to * QK4 + d, da{{ r }}_{{ c }}); }
{% else %}
        if (d < NOPE4) { store_d_kv(to * KV4 + d, da{{ r }}_{{ c }}); }
{% if ROPE4 > 0 %}
        else if (d < QK4) { store_d_kr(to * ROPE4 + d - NOPE4, da{{ r }}_{{ c }}); }
{% endif %}
{% endif %}
      }
{% endfor %}
{% if SIDE == "key" %}
{% for c in range(values) %}
      if (x + {{ 16 * c }}u < V4) { store_d_kv(to * KV4 + NOPE4 + x + {{ 16 * c }}u, db{{ r }}_{{ c }}); }
{% endfor %}
{% endif %}
    }
  }
{% endfor %}
}
