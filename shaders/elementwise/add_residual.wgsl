// y = residual + f · (x + bias), with dropout's factors f of rows and columns (DROPOUT; dropout.wgsl), otherwise 1, and with BIAS, otherwise 0.
// x, residual, y [rows, 4·columns4], bias [4·columns4]. An invocation takes a vec4. Bound by memory.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let item = workgroup_number(id, count) * 64u + lane;
  let row = item / params.columns4;
  if (row >= params.rows) { return; }
  var v = load_x(item);
{% if BIAS %}
  v += load_bias(item % params.columns4);
{% endif %}
{% if DROPOUT %}
  v *= dropout_factors(vec4u(dropout_row(row)), 4u * (item % params.columns4) + vec4u(0u, 1u, 2u, 3u));
{% endif %}
  store_y(item, load_residual(item) + v);
}
