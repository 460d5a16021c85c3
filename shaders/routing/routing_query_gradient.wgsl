// Gradient of the queries without a load-balance term: of the scores only the kept experts' have one, so a row is a sum of few sub-keys.
//
//   dq1 = Σ_j dtotal_j K1[index_j / KEYS]        dq2 = Σ_j dtotal_j K2[index_j % KEYS]
//
// index u32, dtotal f32 [rows, TOP]; k1, k2 [KEYS, half]; dquery [rows, 2 · half]: dq1, then dq2; a row is a token's routing head. params in vec4s.
//
// An invocation does four columns of a row. TOP of KEYS sub-keys are looked at where a product with the scores' gradients looks at all. Bound by gathering sub-keys from the cache.

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * WORKGROUP + lane;
  let width = 2u * params.half;
  if (i >= params.rows * width) { return; }
  let first = i / width * TOP;
  let column = i % width;
  var sum = vec4f();
  if (column < params.half) {
{% for j in range(TOP) %}
    sum = fma(vec4f(dtotal[first + {{ j }}u]), load_k1(index[first + {{ j }}u] / KEYS * params.half + column), sum);
{% endfor %}
  } else {
{% for j in range(TOP) %}
    sum = fma(vec4f(dtotal[first + {{ j }}u]), load_k2(index[first + {{ j }}u] % KEYS * params.half + column - params.half), sum);
{% endfor %}
  }
  store_dquery(i, sum);
}
