// out_i = e_i · x_t for the assignments start … start + n − 1, e_i component COMPONENT of the assignment's entry (0: a, 1: dp).
//
// entries f32 [T · per, 4] (a, dp, ds, p); x [T, width]; out [n, width]; params in vec4s. An invocation does a vec4. Bound by memory.

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * WORKGROUP + lane;
  if (i >= params.n * params.width) { return; }
  let assignment = params.start + i / params.width;
  store_out(i, load_entries(assignment)[COMPONENT] * load_x(assignment / params.per * params.width + i % params.width));
}
