// Attention of a few tokens over a cache in spans of positions: for each token, head and span the largest score, the sum of exponentials and the
// weighted sum of values. merge_spans.wgsl puts the spans together. The file before this one reads a kind of cache:
//
// - WIDTH4: columns of a head's values, in vec4s;
// - begin(): addresses of the columns of the heads from `head` on, and of their queries;
// - add_products(row): adds the products of queries and a row's key to `dots0`, `dots1`, …, column by column;
// - values_at(row), load_values(at): the address of a row's values, and four of them.
//
// Sequences of `length` tokens follow one another, and so do their caches of `capacity` rows. Token t of sequence s is at position[s] + t and sees the
// positions up to its own. mixed [tokens·heads·spans, width], statistics [tokens·heads·spans, 2]
// (largest score, sum). Spans that begin beyond the token are left as they are.
//
// A workgroup of LANES invocations takes one span in steps of LANES positions, for HEADS heads that read the same keys and values: first every invocation scores a
// position, then each sums its columns of the values over the positions. A head's bits do not depend on HEADS. Bound by reading the cache.

const LOWEST = -3.0e38f;
{% set columns = (WIDTH4 + LANES - 1) // LANES %}

var<workgroup> scores: array<f32, {{ HEADS * LANES }}>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let work = workgroup_number(id, count);
  let groups = params.heads / HEADS;
  let head = work / params.spans % groups * HEADS;
  let token = work / params.spans / groups;
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
{% for h in range(HEADS) %}
  var total{{ n }}_{{ h }} = vec4f();
{% endfor %}
{% endfor %}
{% for h in range(HEADS) %}
  var highest{{ h }} = LOWEST;
  var sum{{ h }} = 0.0f;
{% endfor %}
  for (var j = begin; j < end; j += LANES) {
    let row = cached + min(j + lane, end - 1u);
{% for h in range(HEADS) %}
    var dots{{ h }} = vec4f();
{% endfor %}
{{ add_products("row") }}
{% for h in range(HEADS) %}
    let score{{ h }} = select(LOWEST, dot(dots{{ h }}, vec4f(1.0)) * params.scale, j + lane < end);
    scores[lane + {{ h * LANES }}u] = score{{ h }};
{% endfor %}
    workgroupBarrier();
    // Every invocation goes through the same numbers in the same order, so all have the same bits.
{% for h in range(HEADS) %}
    var raised{{ h }} = highest{{ h }};
    for (var t = 0u; t < LANES; t++) { raised{{ h }} = max(raised{{ h }}, scores[t + {{ h * LANES }}u]); }
{% endfor %}
    workgroupBarrier();
{% for h in range(HEADS) %}
    scores[lane + {{ h * LANES }}u] = select(0.0, exp(score{{ h }} - raised{{ h }}), j + lane < end);
{% endfor %}
    workgroupBarrier();
{% for h in range(HEADS) %}
    let keep{{ h }} = exp(highest{{ h }} - raised{{ h }});
    highest{{ h }} = raised{{ h }};
    sum{{ h }} *= keep{{ h }};
{% for n in range(columns) %}
    total{{ n }}_{{ h }} *= keep{{ h }};
{% endfor %}
{% endfor %}
    for (var t = 0u; t < LANES; t++) {
      let at = {{ values_at("(cached + min(j + t, end - 1u))") }};
{% for n in range(columns) %}
      let value{{ n }} = {{ load_values("at + column" ~ n) }};
{% endfor %}
{% for h in range(HEADS) %}
      let p{{ h }} = scores[t + {{ h * LANES }}u];
      sum{{ h }} += p{{ h }};
{% for n in range(columns) %}
      total{{ n }}_{{ h }} = fma(vec4f(p{{ h }}), value{{ n }}, total{{ n }}_{{ h }});
{% endfor %}
{% endfor %}
    }
    workgroupBarrier();
  }
{% for h in range(HEADS) %}
  let piece{{ h }} = (token * params.heads + head + {{ h }}u) * params.spans + work % params.spans;
{% for n in range(columns) %}
  if (lane + {{ n * LANES }}u < {{ WIDTH4 }}u) { store_mixed(piece{{ h }} * {{ WIDTH4 }}u + column{{ n }}, total{{ n }}_{{ h }}); }
{% endfor %}
  if (lane == 0u) {
    statistics[2u * piece{{ h }}] = highest{{ h }};
    statistics[2u * piece{{ h }} + 1u] = sum{{ h }};
  }
{% endfor %}
}
