// dx = scale · (gain · dy − x · scale² · mean(gain · dy · x)), row by row.   EPILOGUE "none": dx = …   "accumulate": dx += …
//
// x, dy, dx [rows, columns] inside wider matrices: strides and offsets in vec4s; gain [columns], scale [rows] from the forward pass.
// BY_ROW: an invocation takes a row by itself. Otherwise a workgroup of LANES invocations (a power of two) shares one row.
// Bound by memory: x and dy are read twice, the second time from cache.

{% if not BY_ROW %}
var<workgroup> sums: array<f32, LANES>;
{% endif %}
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
{% if BY_ROW %}
  let row = workgroup_number(id, count) * LANES + lane;
  let first = 0u;
  let step = 1u;
{% else %}
  let row = workgroup_number(id, count);
  let first = lane;
  let step = LANES;
{% endif %}
  if (row >= params.rows) { return; }
  let x_at = params.x_start + row * params.ldx;
  let dy_at = params.dy_start + row * params.ld_dy;
  let dx_at = params.dx_start + row * params.ld_dx;

  var products = vec4f();
  for (var i = first; i < params.columns4; i += step) {
    products = fma(load_gain(i) * load_dy(dy_at + i), load_x(x_at + i), products);
  }
  var total = dot(products, vec4f(1.0));
{% if not BY_ROW %}
  sums[lane] = total;
  for (var width = LANES / 2u; width > 0u; width /= 2u) {
    workgroupBarrier();
    if (lane < width) { sums[lane] += sums[lane + width]; }
  }
  workgroupBarrier();
  total = sums[0];
{% endif %}
  let factor = scale[row];
  let along = total / params.columns * factor * factor;
  for (var i = first; i < params.columns4; i += step) {
    let v = factor * (load_gain(i) * load_dy(dy_at + i) - along * load_x(x_at + i));
{% if EPILOGUE == "accumulate" %}
    store_dx(dx_at + i, load_dx(dx_at + i) + v);
{% else %}
    store_dx(dx_at + i, v);
{% endif %}
  }
}
