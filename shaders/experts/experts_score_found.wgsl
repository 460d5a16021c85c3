// The gradients of the scores in the router's order: dscore_j = found at the assignment's place, 0 for an expert that a token does not keep.
//
// sorted, place u32 [T · per] from experts_order; found f32 [T · per], unset where sorted is params.none; dscore f32 [T · per]. An invocation does one. Bound by memory.

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * WORKGROUP + lane;
  if (i >= params.n) { return; }
  let at = i / params.per * params.per + place[i];
  dscore[i] = select(found[at], 0.0, sorted[at] == params.none);
}
