// Attention of a few tokens over the latent cache: for each token, head and span of positions, the largest score, the sum of exponentials and
// the weighted sum of latents. merge_spans.wgsl puts the spans together.
//
// ql [tokens, heads·RANK] (queries brought into the latent space), q [tokens, heads·(NOPE+ROPE)] of which the rotated columns are
// read, c_kv [capacity, RANK], kr [capacity, ROPE]; token t is at position[0] + t and sees the positions up to its own.
// mixed [tokens·heads·spans, RANK], statistics [tokens·heads·spans, 2] (largest score, sum). Spans that begin beyond the token are left
// as they are. Widths RANK4, NOPE4, ROPE4 in vec4s.
//
// A workgroup of LANES invocations takes one span in steps of LANES positions: first every invocation scores a position, then each sums its
// columns of the latents over the positions. Bound by reading the cache.

const LOWEST = -3.0e38f;
{% set columns = (RANK4 + LANES - 1) // LANES %}

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
  let ql_at = (token * params.heads + head) * RANK4;
  let q_at = (token * params.heads + head) * (NOPE4 + ROPE4) + NOPE4;
{% for n in range(columns) %}
  let column{{ n }} = min(lane + {{ n * LANES }}u, RANK4 - 1u);
  var total{{ n }} = vec4f();
{% endfor %}
  var highest = LOWEST;
  var sum = 0.0f;
  for (var j = begin; j < end; j += LANES) {
    let row = min(j + lane, end - 1u);
    var dots = vec4f();
    for (var d = 0u; d < RANK4; d++) { dots = fma(load_ql(ql_at + d), load_c_kv(row * RANK4 + d), dots); }
    for (var d = 0u; d < ROPE4; d++) { dots = fma(load_q(q_at + d), load_kr(row * ROPE4 + d), dots); }
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
      let at = min(j + t, end - 1u) * RANK4;
      sum += p;
{% for n in range(columns) %}
      total{{ n }} = fma(vec4f(p), load_c_kv(at + column{{ n }}), total{{ n }});
{% endfor %}
    }
    workgroupBarrier();
  }
{% for n in range(columns) %}
  if (lane + {{ n * LANES }}u < RANK4) { store_mixed(work * RANK4 + column{{ n }}, total{{ n }}); }
{% endfor %}
  if (lane == 0u) {
    statistics[2u * work] = highest;
    statistics[2u * work + 1u] = sum;
  }
}
