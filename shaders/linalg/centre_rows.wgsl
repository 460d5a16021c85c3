// y = x − mean, row by row. x, y: [rows, 4·width]; mean: [4·width]. params: count (vec4s of x), width (vec4s of a row).
// An invocation does one vec4. Bound by memory.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * 64u + lane;
  if (i >= params.count) { return; }
  store_y(i, load_x(i) - load_mean(i % params.width));
}
