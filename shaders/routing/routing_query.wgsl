// Mean and standard deviation of the queries' norms, for metrics.
//
// MERGE false: query [rows, width]; partial f32 [runs, 4]: count, mean and sum of squared deviations of the norms of params.run rows (Welford).
// MERGE true: out f32 [4]: mean, standard deviation (biased), 0, 0 of all, merged in order by one invocation.

{% if MERGE %}
@compute @workgroup_size(1)
fn main() {
  var n = 0.0;
  var mean = 0.0;
  var squares = 0.0;
  for (var i = 0u; i < params.runs; i++) {
    let part = load_partial(i);
    let d = part.y - mean;
    let total = n + part.x;
    mean += d * part.x / total;
    squares += part.z + d * d * n * part.x / total;
    n = total;
  }
  store_out(0u, vec4f(mean, sqrt(squares / n), 0.0, 0.0));
}
{% else %}
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * WORKGROUP + lane;
  if (i >= params.runs) { return; }
  var n = 0.0;
  var mean = 0.0;
  var squares = 0.0;
  for (var row = i * params.run; row < min((i + 1u) * params.run, params.rows); row++) {
    var sum = 0.0;
    for (var c = 0u; c < params.width; c++) {
      let q = load_query(row * params.width + c);
      sum += dot(q, q);
    }
    let norm = sqrt(sum);
    let d = norm - mean;
    n += 1.0;
    mean += d / n;
    squares += d * (norm - mean);
  }
  store_partial(i, vec4f(n, mean, squares, 0.0));
}
{% endif %}
