// dx = scale · (h − mean(h) − n · mean(h · n)) with h = gain · dy and n = (x − mean) · scale, row by row.
// EPILOGUE "none": dx = …   "accumulate": dx += …
//
// x, dy, dx [rows, columns] inside wider matrices: strides and offsets in vec4s; gain [columns]; mean, scale [rows] from the forward
// pass. Rows and their invocations as in rows.wgsl. Bound by memory: x and dy are read twice, the second time from cache.

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = row_of(workgroup_number(id, count), lane);
  let first = first_of(lane);
  if (row >= params.rows) { return; }
  let x_at = params.x_start + row * params.ldx;
  let dy_at = params.dy_start + row * params.ld_dy;
  let dx_at = params.dx_start + row * params.ld_dx;
  let centre = mean[row];
  let factor = scale[row];

  var sum = vec4f();
  var products = vec4f();
  for (var i = first; i < params.columns4; i += STRIDE) {
    let h = load_gain(i) * load_dy(dy_at + i);
    sum += h;
    products = fma(h, load_x(x_at + i) - centre, products);
  }
  let level = reduce_sum(lane, dot(sum, vec4f(1.0))) / params.columns;
  let along = reduce_sum(lane, dot(products, vec4f(1.0))) / params.columns * factor * factor;
  for (var i = first; i < params.columns4; i += STRIDE) {
    let v = factor * (load_gain(i) * load_dy(dy_at + i) - level - along * (load_x(x_at + i) - centre));
{% if EPILOGUE == "accumulate" %}
    store_dx(dx_at + i, load_dx(dx_at + i) + v);
{% else %}
    store_dx(dx_at + i, v);
{% endif %}
  }
}
