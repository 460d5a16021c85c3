// Batch norm, second stage: what the features are normalised by, and the running statistics.
//
// TRAINING: partial f32 [chunks, 2, width] as batch_norm_moments.wgsl wrote it, merged in order (Chan et al.):
//   mean, inverse = 1/√(var + ε) of the batch (biased var);  running ← (1 − momentum) running + momentum batch (unbiased var).
// Otherwise mean and inverse of the running statistics.
// The bias that the layer adds to x cancels in x − mean, so x comes without it: running_mean counts it, mean doesn't.
//
// bias, running_mean, running_variance, mean, inverse: f32 [width]. An invocation does four features.

// By the exponent's bits, for a compiler may assume that there are no NaNs.
fn finite(x: vec4f) -> vec4<bool> { return (bitcast<vec4u>(x) & vec4u(0x7f800000u)) != vec4u(0x7f800000u); }

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let column = workgroup_number(id, count) * WORKGROUP + lane;
  if (column >= params.width) { return; }
{% if TRAINING %}
  var mean_all = vec4f();
  var squares = vec4f();
  var n = 0.0;
  for (var chunk = 0u; chunk < params.chunks; chunk++) {
    let rows = f32(min(params.chunk, params.rows - chunk * params.chunk));
    let d = load_partial(2u * chunk * params.width + column) - mean_all;
    let total = n + rows;
    mean_all += d * (rows / total);
    squares += load_partial((2u * chunk + 1u) * params.width + column) + d * d * (n * rows / total);
    n = total;
  }
  store_mean(column, mean_all);
  store_inverse(column, 1.0 / sqrt(squares / n + params.epsilon));
  // A batch that is not finite, whose update is skipped, must not stay in the statistics for ever. A momentum of 0 is a
  // recomputation of a pass that has updated them.
  let kept = all(finite(mean_all)) && all(finite(squares)) && params.momentum > 0.0;
  let running_mean_now = load_running_mean(column);
  let running_variance_now = load_running_variance(column);
  store_running_mean(column, select(running_mean_now, mix(running_mean_now, mean_all + load_bias(column), params.momentum), vec4<bool>(kept)));
  store_running_variance(column, select(running_variance_now, mix(running_variance_now, squares / (n - 1.0), params.momentum), vec4<bool>(kept)));
{% else %}
  store_mean(column, load_running_mean(column) - load_bias(column));
  store_inverse(column, 1.0 / sqrt(load_running_variance(column) + params.epsilon));
{% endif %}
}
