// The gradients of the scores in the router's order: dscore_j = ds of the entry at the assignment's place, 0 for an expert that adds nothing.
//
// sorted, place u32 [T · per] from experts_order; entries f32 [T · per, 4]: a, dp, ds, p, of assignments in ascending order, unset where sorted is params.none;
// dscore f32 [T · per]. An invocation does one. Bound by memory.

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * WORKGROUP + lane;
  if (i >= params.n) { return; }
  let at = i / params.per * params.per + place[i];
  dscore[i] = select(load_entries(at).z, 0.0, sorted[at] == params.none);
}
