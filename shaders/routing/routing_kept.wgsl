// Mean, standard deviation, least and most of the experts that a token keeps, for metrics.
//
// MERGE false: number u32 [tokens, heads]; partial f32 [runs, 8]: count, mean, sum of squared deviations, least, most of params.run tokens (Welford).
// MERGE true: out f32 [8]: the first two numbers of first f32 [4], then mean, standard deviation (biased), least and most of all tokens, merged in order by one invocation.

{% if MERGE %}
@compute @workgroup_size(1)
fn main() {
  var n = 0.0;
  var mean = 0.0;
  var squares = 0.0;
  var least = load_partial(0u).w;
  var most = 0.0;
  for (var i = 0u; i < params.runs; i++) {
    let part = load_partial(2u * i);
    let d = part.y - mean;
    let total = n + part.x;
    mean += d * part.x / total;
    squares += part.z + d * d * n * part.x / total;
    n = total;
    least = min(least, part.w);
    most = max(most, load_partial(2u * i + 1u).x);
  }
  store_out(0u, vec4f(load_first(0u).xy, mean, sqrt(squares / n)));
  store_out(1u, vec4f(least, most, 0.0, 0.0));
}
{% else %}
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * WORKGROUP + lane;
  if (i >= params.runs) { return; }
  var n = 0.0;
  var mean = 0.0;
  var squares = 0.0;
  var least = 0xffffffffu;
  var most = 0u;
  for (var token = i * params.run; token < min((i + 1u) * params.run, params.tokens); token++) {
    var kept = 0u;
    for (var head = 0u; head < params.heads; head++) { kept += number[token * params.heads + head]; }
    least = min(least, kept);
    most = max(most, kept);
    let d = f32(kept) - mean;
    n += 1.0;
    mean += d / n;
    squares += d * (f32(kept) - mean);
  }
  store_partial(2u * i, vec4f(n, mean, squares, f32(least)));
  store_partial(2u * i + 1u, vec4f(f32(most), 0.0, 0.0, 0.0));
}
{% endif %}
