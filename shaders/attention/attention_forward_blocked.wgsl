// Causal attention by products of blocks; bindings, layouts and result as in attention_forward_direct.wgsl, blocks as in attention_blocks.wgsl.
//
// A workgroup owns OWN query rows of a head, with its part of o in registers. For each block of OTHER keys it computes the scores, takes the maximum
// of each row across the 16 invocations that share it, rescales, writes the exponentials to workgroup memory and adds their product with the values.
// Each invocation sums the exponentials of its own columns; the 16 sums are added at the end, in order. Blocks beyond the diagonal are left out,
// those on it masked. Bound by products: three vec4 from workgroup memory
// for 32 of them (OWN_QUADS 2); for short sequences by its barriers.
//
// Pages: the buffers of queries and keys lie where the scores' exponentials go afterwards; values come behind, with the row maxima
// in the half of their buffer that is not yet in use.

const LOWEST = -3.0e38f;
{% set values = (V4 + 15) // 16 %}
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let work = workgroup_number(id, count);
  // Late rows see the most keys: they start first.
  let top = (params.blocks - 1u - work % params.blocks) * OWN;
  let head = work / params.blocks % params.heads;
  let sequence = work / params.blocks / params.heads;
  // The whole workgroup leaves together, so the barriers below stay uniform.
  if (sequence >= params.batch) { return; }
  let first = sequence * params.length;
{{ declare(FETCHES) }}
{% for r in range(4 * OWN_QUADS) %}{% for c in range(values) %}
  var o{{ r }}_{{ c }} = vec4f();
{% endfor %}{% endfor %}
{% for i in range(OWN_QUADS) %}
  let row{{ i }} = top + 4u * y + {{ 4 * DOWN * i }}u;
  var highest{{ i }} = vec4f(LOWEST);
  var sum{{ i }} = vec4f();
{% endfor %}
{% if DROPOUT %}{% for r in range(4 * OWN_QUADS) %}
  let start{{ r }} = dropout_row(head * params.batch * params.length + first + row{{ r // 4 }} + {{ r % 4 }}u);
{% endfor %}{% endif %}
  let last = min(top + OWN, params.length);
{{ fetch_rows("query", "key", "0u", "0u") }}
  for (var j = 0u; j < last; j += OTHER) {
{{ multiply_rows("s", "query", "key", NOPE4 + ROPE4, 0, fetch_block("value", values, "j", "0u")) }}
{% for r in range(4 * OWN_QUADS) %}{% for c in range(OTHER_QUADS) %}
    s{{ r }}_{{ c }} *= params.scale;
{% endfor %}{% endfor %}
    if (j + OTHER > top + 1u) {
{% for c in range(OTHER_QUADS) %}
      let keys{{ c }} = j + 4u * x + {{ 64 * c }}u + vec4u(0u, 1u, 2u, 3u);
{% for r in range(4 * OWN_QUADS) %}
      s{{ r }}_{{ c }} = select(vec4f(LOWEST), s{{ r }}_{{ c }}, keys{{ c }} <= vec4u(row{{ r // 4 }} + {{ r % 4 }}u));
{% endfor %}
{% endfor %}
    }
    // Key 0 is never masked, so the maximum is a real score from the first block on.
{% for i in range(OWN_QUADS) %}
    {
      var most = max(highest{{ i }}, vec4f({% for r in range(4) %}{% set s = "s" ~ (4 * i + r) ~ "_0" %}max(max({{ s }}.x, {{ s }}.y), max({{ s }}.z, {{ s }}.w)){{ ", " if r < 3 }}{% endfor %}));
{% for c in range(1, OTHER_QUADS) %}
      most = max(most, vec4f({% for r in range(4) %}{% set s = "s" ~ (4 * i + r) ~ "_" ~ c %}max(max({{ s }}.x, {{ s }}.y), max({{ s }}.z, {{ s }}.w)){{ ", " if r < 3 }}{% endfor %}));
{% endfor %}
      pages[{{ BUFFER + values }}u + {{ own_page(i) }}][x][{{ own_at(i, 0) }}] = most;
    }
{% endfor %}
    workgroupBarrier();
{% for i in range(OWN_QUADS) %}
    {
      var raised = pages[{{ BUFFER + values }}u + {{ own_page(i) }}][0][{{ own_at(i, 0) }}];
{% for t in range(1, 16) %}
      raised = max(raised, pages[{{ BUFFER + values }}u + {{ own_page(i) }}][{{ t }}][{{ own_at(i, 0) }}]);
{% endfor %}
      let keep = exp(highest{{ i }} - raised);
      highest{{ i }} = raised;
      sum{{ i }} *= keep;
{% for r in range(4) %}
{% for c in range(values) %}
      o{{ 4 * i + r }}_{{ c }} *= keep[{{ r }}];
{% endfor %}
{% for c in range(OTHER_QUADS) %}
      s{{ 4 * i + r }}_{{ c }} = exp(s{{ 4 * i + r }}_{{ c }} - raised[{{ r }}]);
      sum{{ i }}[{{ r }}] += dot(s{{ 4 * i + r }}_{{ c }}, vec4f(1.0));
{% if DROPOUT %}
      s{{ 4 * i + r }}_{{ c }} *= dropout_factors(vec4u(start{{ 4 * i + r }}), j + 4u * x + {{ 64 * c }}u + vec4u(0u, 1u, 2u, 3u));
{% endif %}
{% endfor %}
{% endfor %}
    }
{% endfor %}
{{ put_scores("s") }}
{{ multiply_scores("o", "value", values, BUFFER, fetch_rows("query", "key", "j + OTHER", "0u")) }}
  }
  // No other write is in flight: every round ends in a barrier.
{% for i in range(OWN_QUADS) %}
  pages[{{ own_page(i) }}][x][{{ own_at(i, 0) }}] = sum{{ i }};
{% endfor %}
  workgroupBarrier();
{% for i in range(OWN_QUADS) %}
  sum{{ i }} = pages[{{ own_page(i) }}][0][{{ own_at(i, 0) }}];
{% for t in range(1, 16) %}
  sum{{ i }} += pages[{{ own_page(i) }}][{{ t }}][{{ own_at(i, 0) }}];
{% endfor %}
{% endfor %}
{% for r in range(4 * OWN_QUADS) %}
  {
    let row = row{{ r // 4 }} + {{ r % 4 }}u;
    if (row < params.length) {
      let o_at = ((first + row) * params.heads + head) * V4 + x;
      let total = sum{{ r // 4 }}[{{ r % 4 }}];
{% for c in range(values) %}
      if (x + {{ 16 * c }}u < V4) { store_o(o_at + {{ 16 * c }}u, o{{ r }}_{{ c }} / total); }
{% endfor %}
      if (x == 0u) { log_sum[head * params.batch * params.length + first + row] = highest{{ r // 4 }}[{{ r % 4 }}] + log(total); }
    }
  }
{% endfor %}
}
