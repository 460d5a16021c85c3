// Attention of a few tokens over a cache of keys and values: for each token, head and span of positions, the largest score, the sum of
// exponentials and the weighted sum of values. merge_spans.wgsl puts the spans together.
//
// q [tokens, heads·D], kv [capacity, kv_heads·2·D], per head [k | v]; query head h reads head h / (heads / kv_heads) of it. Token t is at position[0] + t and sees the
// positions up to its own. mixed [tokens·heads·spans, D], statistics [tokens·heads·spans, 2] (largest score, sum). Spans that begin beyond the token are left as they
// are. Width D4 in vec4s.
//
// A workgroup of LANES invocations takes one span in steps of LANES positions: first every invocation scores a position, then each sums its
// columns of the values over the positions. Bound by reading the cache.

const LOWEST = -3.0e38f;
{% set columns = (D4 + LANES - 1) // LANES %}

var<workgroup> scores: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let work = workgroup_number(id, count);
  let head = work / params.spans % params.heads;
  let token = work / params.spans / params.heads;
  // The whole workgroup leaves together, so the barriers below stay uniform.
  if (token >= params.tokens) { return; }
  let visible = min(position[0] + token + 1u, params.capacity);
  let begin = work % params.spans * params.span;
  let end = min(begin + params.span, visible);
  if (begin >= visible) { return; }
  let q_at = (token * params.heads + head) * D4;
  let kv_at = head / (params.heads / params.kv_heads) * 2u * D4;
  let row_step = params.kv_heads * 2u * D4;
{% for n in range(columns) %}
  let column{{ n }} = min(lane + {{ n * LANES }}u, D4 - 1u);
  var total{{ n }} = vec4f();
{% endfor %}
  var highest = LOWEST;
  var sum = 0.0f;
  for (var j = begin; j < end; j += LANES) {
    let at = min(j + lane, end - 1u) * row_step + kv_at;
    var dots = vec4f();
    for (var d = 0u; d < D4; d++) { dots = fma(load_q(q_at + d), load_kv(at + d), dots); }
    let score = select(LOWEST, dot(dots, vec4f(1.0)) * params.scale, j + lane < end);
    scores[lane] = score;
    workgroupBarrier();
    // Every invocation goes through the same numbers in the same order, so all have the same bits.
    var raised = highest;
    for (var t = 0u; t < LANES; t++) { raised = max(raised, scores[t]); }
    workgroupBarrier();
    scores[lane] = select(0.0, exp(score - raised), j + lane < end);
    workgroupBarrier();
    let keep = exp(highest - raised);
    highest = raised;
    sum *= keep;
{% for n in range(columns) %}
    total{{ n }} *= keep;
{% endfor %}
    for (var t = 0u; t < LANES; t++) {
      let p = scores[t];
      let values = min(j + t, end - 1u) * row_step + kv_at + D4;
      sum += p;
{% for n in range(columns) %}
      total{{ n }} = fma(vec4f(p), load_kv(values + column{{ n }}), total{{ n }});
{% endfor %}
    }
    workgroupBarrier();
  }
{% for n in range(columns) %}
  if (lane + {{ n * LANES }}u < D4) { store_mixed(work * D4 + column{{ n }}, total{{ n }}); }
{% endfor %}
  if (lane == 0u) {
    statistics[2u * work] = highest;
    statistics[2u * work + 1u] = sum;
  }
}
