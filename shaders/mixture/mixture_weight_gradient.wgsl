// Gradients of the entries' weights: dweight[t, j] = dy[t] · (rows[place[t, j]] + bias[keys[t, j]]), zero of an entry without a row. BIAS says whether there are biases.
//
// place, keys, rows, bias as in mixture_combine.wgsl; dy f32 [T, width]; dweight f32 [T, TOP]. params in vec4s. Entries and their invocations as in rows.wgsl. Bound by memory.

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let entry = row_of(workgroup_number(id, count), lane);
  if (entry >= params.entries) { return; }
  let row = place[entry];
  let inside = row < params.rows;
  let rows_at = select(0u, row, inside) * params.width;
  let dy_at = entry / TOP * params.width;
{% if BIAS %}
  let bias_at = select(0u, keys[entry], inside) * params.width;
{% endif %}
  var products = vec4f();
  for (var i = first_of(lane); i < params.width; i += STRIDE) {
    products = fma(load_dy(dy_at + i), load_rows(rows_at + i){{ " + load_bias(bias_at + i)" if BIAS }}, products);
  }
  let total = reduce_sum(lane, dot(products, vec4f(1.0)));
  if (first_of(lane) == 0u) { dweight[entry] = select(0.0, total, inside); }
}
