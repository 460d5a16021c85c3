// y[i] = x[i], between element types. params: count (vec4s). An invocation converts one vec4. Bound by memory.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * 64u + lane;
  if (i < params.count) { store_y(i, load_x(i)); }
}
