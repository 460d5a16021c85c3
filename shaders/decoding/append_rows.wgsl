// cache[position + row] = x[row]. x [rows, 4·columns4], cache [capacity, 4·columns4]; `position` holds one number. Rows beyond the
// capacity are dropped. An invocation copies a vec4. Bound by memory.

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let item = workgroup_number(id, count) * LANES + lane;
  let row = position[0] + item / params.columns4;
  if (item >= params.rows * params.columns4 || row >= params.capacity) { return; }
  store_cache(row * params.columns4 + item % params.columns4, load_x(item));
}
