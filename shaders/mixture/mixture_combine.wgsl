// Rows of entries back to tokens: y[t] = residual[t] + Σ_j weight[t, j] · (rows[place[t, j]] + bias[keys[t, j]]), over the entries that have a row.
// RESIDUAL, WEIGHTED and BIAS say which of these there are; without WEIGHTED rows are summed as they are.
//
// place u32 [T, TOP], the row of each entry or a number beyond all; rows [params.rows, width]; weight f32 [T, TOP]; bias f32 [experts, width]; keys u32 [T, TOP];
// residual, y f32 [T, width]. params in vec4s. An invocation does a vec4, its entries in their order. Bound by memory.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * 64u + lane;
  if (i >= params.tokens * params.width) { return; }
  let entry = i / params.width * TOP;
  let column = i % params.width;
  var sum = {{ "load_residual(i)" if RESIDUAL else "vec4f()" }};
{% for j in range(TOP) %}
  {
    let row = place[entry + {{ j }}u];
    if (row < params.rows) {
      var v = load_rows(row * params.width + column);
{% if BIAS %}
      v += load_bias(keys[entry + {{ j }}u] * params.width + column);
{% endif %}
      sum += {{ "weight[entry + " ~ j ~ "u] * " if WEIGHTED }}v;
    }
  }
{% endfor %}
  store_y(i, sum);
}
