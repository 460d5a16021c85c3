// y = x · scale · gain, scale = 1 / √(mean(x²) + epsilon), row by row.
//
// x, y [rows, columns] inside wider matrices: strides ldx, ldy and offsets x_start, y_start in vec4s; gain [columns], scale [rows].
// BY_ROW: an invocation takes a row by itself. Otherwise a workgroup of LANES invocations (a power of two) shares one row
// and sums through workgroup memory. Bound by memory: x is read twice, the second time from cache.

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
  let y_at = params.y_start + row * params.ldy;

  var squares = vec4f();
  for (var i = first; i < params.columns4; i += step) {
    let v = load_x(x_at + i);
    squares = fma(v, v, squares);
  }
  var total = dot(squares, vec4f(1.0));
{% if not BY_ROW %}
  sums[lane] = total;
  for (var width = LANES / 2u; width > 0u; width /= 2u) {
    workgroupBarrier();
    if (lane < width) { sums[lane] += sums[lane + width]; }
  }
  workgroupBarrier();
  total = sums[0];
{% endif %}
  let factor = 1.0 / sqrt(total / params.columns + params.epsilon);
  for (var i = first; i < params.columns4; i += step) {
    store_y(y_at + i, load_x(x_at + i) * factor * load_gain(i));
  }
  if (first == 0u) { scale[row] = factor; }
}
