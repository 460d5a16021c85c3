// beam_candidates.wgsl for software adapters: the KEPT best ids of an axis for each query, best first; of equal scores the lower id.
//
// s f32 [rows, stride], the first params.size numbers of a row count; value f32, id u32 [rows, KEPT].
//
// An invocation does a row by insertion into a sorted list (insertion_direct.wgsl, LENGTH = KEPT). Bound by the scan.

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = workgroup_number(group, count) * 8u + lane;
  if (row >= params.rows) { return; }
  clear_best();
  for (var key = 0u; key < params.size; key++) { insert(finite(s[row * params.stride + key]), key); }
{% for i in range(KEPT) %}
  value[row * KEPT + {{ i }}u] = best_value[{{ i }}];
  id[row * KEPT + {{ i }}u] = best_key[{{ i }}];
{% endfor %}
}
