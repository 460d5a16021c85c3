// How often each expert (SUB_KEYS: each sub-key of both axes) was kept. Added to what is there.
//
// index u32 [T, kept]; counts u32 [experts] or [2, keys]; targets u32 [T] (experts only): 0xffffffff pads a batch and is not counted, nor is an index beyond the experts. Integer atomics: the sums do not depend on their order. An invocation does one kept expert.

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * WORKGROUP + lane;
  if (i >= params.n) { return; }
{% if SUB_KEYS %}
  atomicAdd(&counts[index[i] / params.keys], 1u);
  atomicAdd(&counts[params.keys + index[i] % params.keys], 1u);
{% else %}
  if (targets[i / params.kept] != 0xffffffffu && index[i] < params.experts) { atomicAdd(&counts[index[i]], 1u); }
{% endif %}
}
