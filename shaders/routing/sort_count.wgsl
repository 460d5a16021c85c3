// Radix sort, first step of a pass: how many keys of each block have each digit.
//
// keys u32 [n]; counts u32 [RADIX, blocks] written. The digit is bits params.shift … of a key.
//
// A block of consecutive keys is one invocation's (software) or one workgroup's, THREADS · ITEMS keys; there the counts are integer
// atomics in workgroup memory, whose result does not depend on their order. Bound by reading the keys.

{% if SOFTWARE %}
@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let block = workgroup_number(id, count) * 8u + lane;
  if (block >= params.blocks) { return; }
  for (var d = 0u; d < RADIX; d++) { counts[d * params.blocks + block] = 0u; }
  let end = min((block + 1u) * params.block, params.n);
  for (var i = block * params.block; i < end; i++) {
    counts[((keys[i] >> params.shift) % RADIX) * params.blocks + block] += 1u;
  }
}
{% else %}
var<workgroup> histogram: array<atomic<u32>, RADIX>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let block = workgroup_number(id, count);
  if (block >= params.blocks) { return; }
  for (var d = lane; d < RADIX; d += THREADS) { atomicStore(&histogram[d], 0u); }
  workgroupBarrier();
{% for i in range(ITEMS) %}
  {
    let at = block * params.block + {{ i }}u * THREADS + lane;
    if (at < params.n) { atomicAdd(&histogram[(keys[at] >> params.shift) % RADIX], 1u); }
  }
{% endfor %}
  workgroupBarrier();
  for (var d = lane; d < RADIX; d += THREADS) { counts[d * params.blocks + block] = atomicLoad(&histogram[d]); }
}
{% endif %}
