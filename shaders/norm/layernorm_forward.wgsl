// y = (x − mean) · scale · gain + bias, scale = 1 / √(mean((x − mean)²) + epsilon), row by row.
//
// x, y [rows, columns] inside wider matrices: strides ldx, ldy and offsets x_start, y_start in vec4s; gain, bias [columns]; mean,
// scale [rows]. The variance is summed around the mean, so that no digits cancel.
// Rows and their invocations as in rows.wgsl. Bound by memory: x is read three times, all but the first from cache.

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = row_of(workgroup_number(id, count), lane);
  let first = first_of(lane);
  if (row >= params.rows) { return; }
  let x_at = params.x_start + row * params.ldx;
  let y_at = params.y_start + row * params.ldy;

  var sum = vec4f();
  for (var i = first; i < params.columns4; i += STRIDE) { sum += load_x(x_at + i); }
  let centre = reduce_sum(lane, dot(sum, vec4f(1.0))) / params.columns;
  var squares = vec4f();
  for (var i = first; i < params.columns4; i += STRIDE) {
    let v = load_x(x_at + i) - centre;
    squares = fma(v, v, squares);
  }
  let total = reduce_sum(lane, dot(squares, vec4f(1.0)));
  let factor = 1.0 / sqrt(total / params.columns + params.epsilon);
  for (var i = first; i < params.columns4; i += STRIDE) {
    store_y(y_at + i, fma((load_x(x_at + i) - centre) * factor, load_gain(i), load_bias(i)));
  }
  if (first == 0u) {
    mean[row] = centre;
    scale[row] = factor;
  }
}
