// A dense matrix as pruning begins: the columns of dead inputs become zero, and with BITS each row gets the grid of its dense weights.
//
// dense: [rows, 4·width] f32; live: [4·width], 1 where an input is ever not zero, else 0; w: [rows, 4·width]. With BITS grid: [rows, 2], step and zero point.
// params: rows, width (vec4s of a row); with BITS top, the levels above zero (SYMMETRIC) or above the lowest.
// Padding columns hold zeros, which change no grid, since zero is in each of them.
//
// Row partition as in rows.wgsl, which comes before this file. Bound by memory.

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = row_of(workgroup_number(id, count), lane);
  if (row >= params.rows) { return; }
  var low = 0.0;
  var high = 0.0;
  for (var i = first_of(lane); i < params.width; i += STRIDE) {
    let v = load_dense(row * params.width + i);
{% if BITS %}
    low = min(low, min(min(v.x, v.y), min(v.z, v.w)));
    high = max(high, max(max(v.x, v.y), max(v.z, v.w)));
{% endif %}
    store_w(row * params.width + i, v * load_live(i));
  }
{% if BITS %}
  low = -reduce_max(lane, -low);
  high = reduce_max(lane, high);
  if (first_of(lane) == 0u) {
{% if SYMMETRIC %}
    let bound = max(-low, high);
    grid[2u * row] = select(bound, 1.0, bound == 0.0) / params.top;
    grid[2u * row + 1u] = 0.0;
{% else %}
    let empty = low == 0.0 && high == 0.0;
    let scale = (select(high, 1.0, empty) - select(low, -1.0, empty)) / params.top;
    grid[2u * row] = scale;
    grid[2u * row + 1u] = round(-select(low, -1.0, empty) / scale);
{% endif %}
  }
{% endif %}
}
