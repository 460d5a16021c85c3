// Backward of batch norm, second stage: the partial sums of batch_norm_sums.wgsl, added in order.
//
// partial f32 [chunks, 2, width]; dbeta = Σ dy and (NORM) dgamma = Σ dy · x̂, f32 [width], added to what is there when params.accumulate is 1;
// sums f32 [2, width], the same without what was there. An invocation does four features.

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let column = workgroup_number(id, count) * WORKGROUP + lane;
  if (column >= params.width) { return; }
  var sum = vec4f();
{% if NORM %}
  var product = vec4f();
{% endif %}
  for (var chunk = 0u; chunk < params.chunks; chunk++) {
    sum += load_partial(2u * chunk * params.width + column);
{% if NORM %}
    product += load_partial((2u * chunk + 1u) * params.width + column);
{% endif %}
  }
{% if NORM %}
  store_sums(column, sum);
  store_sums(params.width + column, product);
  if (params.accumulate == 1u) { product += load_dgamma(column); }
  store_dgamma(column, product);
{% endif %}
  if (params.accumulate == 1u) { sum += load_dbeta(column); }
  store_dbeta(column, sum);
}
