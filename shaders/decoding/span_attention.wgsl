// Attention of a few tokens over a cache in spans of positions: for each token, head and span the largest score, the sum of exponentials and the
// weighted sum of values. merge_spans.wgsl puts the spans together. The file before this one reads a kind of cache:
//
// - WIDTH4: columns of a head's values, in vec4s;
// - begin(): addresses of the token's queries and the head's columns;
// - add_products(row): adds the products of query and a row's key to `dots`, column by column;
// - values_at(row), load_values(at): the address of a row's values, and four of them.
//
// Sequences of `length` tokens follow one another, and so do their caches of `capacity` rows. Token t of sequence s is at position[s] + t and sees the
// positions up to its own. mixed [tokens·heads·spans, width], statistics [tokens·heads·spans, 2]
// (largest score, sum). Spans that begin beyond the token are left as they are.
//
// A workgroup of LANES invocations takes one span in steps of LANES positions: first every invocation scores a position, then each sums its
// columns of the values over the positions. Bound by reading the cache.

const LOWEST = -3.0e38f;
{% set columns = (WIDTH4 + LANES - 1) // LANES %}

var<workgroup> scores: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let work = workgroup_number(id, count);
  let head = work / params.spans % params.heads;
  let token = work / params.spans / params.heads;
  // The whole workgroup leaves together, so the barriers below stay uniform.
  if (token >= params.tokens) { return; }
  let sequence = token / params.length;
  let cached = sequence * params.capacity;
  let visible = min(position[sequence] + token % params.length + 1u, params.capacity);
  let begin = work % params.spans * params.span;
  let end = min(begin + params.span, visible);
  if (begin >= visible) { return; }
{{ begin() }}
{% for n in range(columns) %}
  let column{{ n }} = min(lane + {{ n * LANES }}u, {{ WIDTH4 }}u - 1u);
  var total{{ n }} = vec4f();
{% endfor %}
  var highest = LOWEST;
  var sum = 0.0f;
  for (var j = begin; j < end; j += LANES) {
    let row = cached + min(j + lane, end - 1u);
    var dots = vec4f();
{{ add_products("row") }}
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
      let at = {{ values_at("(cached + min(j + t, end - 1u))") }};
      sum += p;
{% for n in range(columns) %}
      total{{ n }} = fma(vec4f(p), {{ load_values("at + column" ~ n) }}, total{{ n }});
{% endfor %}
    }
    workgroupBarrier();
  }
{% for n in range(columns) %}
  if (lane + {{ n * LANES }}u < {{ WIDTH4 }}u) { store_mixed(work * {{ WIDTH4 }}u + column{{ n }}, total{{ n }}); }
{% endfor %}
  if (lane == 0u) {
    statistics[2u * work] = highest;
    statistics[2u * work + 1u] = sum;
  }
}
