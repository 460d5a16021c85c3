// Backward of batch norm, first stage: Σ dy and (NORM) Σ dy · x̂ of each feature over a chunk of rows, x̂ = (x − mean) · inverse.
//
// dy, x [rows, width]; mean, inverse f32 [width]; partial f32 [chunks, 2, width]. An invocation does four features of a chunk. Bound by reading.

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * WORKGROUP + lane;
  if (i >= params.chunks * params.width) { return; }
  let chunk = i / params.width;
  let column = i % params.width;
  let end = min((chunk + 1u) * params.chunk, params.rows);
  var sum = vec4f();
{% if NORM %}
  let mean_here = load_mean(column);
  let inverse_here = load_inverse(column);
  var product = vec4f();
{% endif %}
  for (var t = chunk * params.chunk; t < end; t++) {
    let g = load_dy(t * params.width + column);
    sum += g;
{% if NORM %}
    product += g * ((load_x(t * params.width + column) - mean_here) * inverse_here);
{% endif %}
  }
  store_partial(2u * chunk * params.width + column, sum);
{% if NORM %}
  store_partial((2u * chunk + 1u) * params.width + column, product);
{% endif %}
}
