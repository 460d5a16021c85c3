// Row t of sequence s goes to cache[s · capacity + position[s] + t]. x [sequences · length, 4·columns4], cache [sequences · capacity, 4·columns4].
// Rows beyond a sequence's capacity are dropped. An invocation copies a vec4. Bound by memory.

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let item = workgroup_number(id, count) * LANES + lane;
  if (item >= params.rows * params.columns4) { return; }
  let sequence = item / params.columns4 / params.length;
  let row = position[sequence] + item / params.columns4 % params.length;
  if (row >= params.capacity) { return; }
  store_cache((sequence * params.capacity + row) * params.columns4 + item % params.columns4, load_x(item));
}
