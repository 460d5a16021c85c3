// Batch norm, second stage: what the features are normalised by, and the running statistics.
//
// TRAINING: partial f32 [chunks, 2, width] as batch_norm_moments.wgsl wrote it, merged in order (Chan et al.):
//   mean, inverse = 1/√(var + ε) of the batch (biased var);  running ← (1 − momentum) running + momentum batch (unbiased var).
// Otherwise mean and inverse of the running statistics.
// The bias that the layer adds to x cancels in x − mean, so x comes without it: running_mean counts it, mean doesn't.
//
// bias, running_mean, running_variance, mean, inverse: f32 [width]. A workgroup does COLUMNS times four features, LANES invocations each (without TRAINING one): an invocation
// merges consecutive chunks, and the first what all of them have. Bound by latency.

// By the exponent's bits, for a compiler may assume that there are no NaNs.
fn finite(x: vec4f) -> vec4<bool> { return (bitcast<vec4u>(x) & vec4u(0x7f800000u)) != vec4u(0x7f800000u); }

{% if TRAINING %}
struct Moments { n: f32, mean: vec4f, squares: vec4f }

fn merged(a: Moments, b: Moments) -> Moments {
  // An invocation may have had no chunk.
  if (b.n == 0.0) { return a; }
  let d = b.mean - a.mean;
  let total = a.n + b.n;
  return Moments(total, a.mean + d * (b.n / total), a.squares + b.squares + d * d * (a.n * b.n / total));
}

{% if LANES > 1 %}
var<workgroup> parts: array<Moments, COLUMNS * LANES>;
{% endif %}
{% endif %}

@compute @workgroup_size({{ COLUMNS * LANES }})
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) invocation: u32) {
  let own = workgroup_number(id, count) * COLUMNS + invocation % COLUMNS;
  let column = min(own, params.width - 1u);
{% if TRAINING %}
  let lane = invocation / COLUMNS;
  let run = (params.chunks + LANES - 1u) / LANES;
  var batch = Moments(0.0, vec4f(), vec4f());
  for (var chunk = lane * run; chunk < min((lane + 1u) * run, params.chunks); chunk++) {
    let rows = f32(min(params.chunk, params.rows - chunk * params.chunk));
    let at = 2u * chunk * params.width + column;
    batch = merged(batch, Moments(rows, load_partial(at), load_partial(at + params.width)));
  }
{% if LANES > 1 %}
  parts[invocation] = batch;
  workgroupBarrier();
{% endif %}
  if (lane > 0u || own >= params.width) { return; }
{% if LANES > 1 %}
  for (var i = 1u; i < LANES; i++) { batch = merged(batch, parts[i * COLUMNS + invocation]); }
{% endif %}
  store_mean(column, batch.mean);
  store_inverse(column, 1.0 / sqrt(batch.squares / batch.n + params.epsilon));
  // A batch that is not finite, whose update is skipped, must not stay in the statistics for ever. A momentum of 0 is a
  // recomputation of a pass that has updated them.
  let kept = all(finite(batch.mean)) && all(finite(batch.squares)) && params.momentum > 0.0;
  let running_mean_now = load_running_mean(column);
  let running_variance_now = load_running_variance(column);
  store_running_mean(column, select(running_mean_now, mix(running_mean_now, batch.mean + load_bias(column), params.momentum), vec4<bool>(kept)));
  store_running_variance(column, select(running_variance_now, mix(running_variance_now, batch.squares / (batch.n - 1.0), params.momentum), vec4<bool>(kept)));
{% else %}
  if (own >= params.width) { return; }
  store_mean(column, load_running_mean(column) - load_bias(column));
  store_inverse(column, 1.0 / sqrt(load_running_variance(column) + params.epsilon));
{% endif %}
}
