// Learned positions: x[row] += W_p[row mod length + start of its sequence], and the table's gradient.
//
// BACKWARD false: x [rows, width] is updated from table [positions, width]; POSITION: `position` holds the starts, which are otherwise 0. An
// invocation adds one vec4.
// BACKWARD true: d_table[p] = Σ over sequences of dx[sequence · length + p], in their order, for p below length; rows beyond it get zero.
// EPILOGUE "accumulate": d_table[p] += …, and the rows beyond length are left alone. An invocation sums one vec4.
// Widths in vec4s. Bound by memory.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let item = workgroup_number(id, count) * 64u + lane;
  let row = item / params.width;
  if (row >= params.rows) { return; }
{% if BACKWARD %}
  var total = vec4f();
{% if EPILOGUE == "accumulate" %}
  total = load_d_table(item);
{% else %}
  if (row >= params.length) {
    store_d_table(item, total);
    return;
  }
{% endif %}
  let step = params.length * params.width;
  for (var sequence = 0u; sequence < params.sequences; sequence++) {
    total += load_dx(sequence * step + item);
  }
  store_d_table(item, total);
{% else %}
  var at = row % params.length;
{% if POSITION %}
  at += position[row / params.length];
{% endif %}
  store_x(item, load_x(item) + load_table(at * params.width + item % params.width));
{% endif %}
}
