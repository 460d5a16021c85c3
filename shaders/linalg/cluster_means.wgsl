// means[j] = sums[j] / number of rows of cluster j; a cluster without rows keeps its sum, zero.
// sums, means: [clusters, 4·width] f32; begin: u32 [clusters + 1], where each cluster's rows begin. params: count (vec4s), width (vec4s of a row).
// An invocation does one vec4. Bound by memory.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * 64u + lane;
  if (i >= params.count) { return; }
  let cluster = i / params.width;
  let rows = max(1u, begin[cluster + 1u] - begin[cluster]);
  store_means(i, load_sums(i) / f32(rows));
}
