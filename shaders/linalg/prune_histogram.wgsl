// bins[d] += keys whose digit is d, among those that agree with the prefix that is chosen so far: one pass of a radix selection.
//
// keys: [count] u32; state: chosen key, chosen position, rank; bins: [256] u32 atomics, zero at first.
// DIGIT "key": digits of the keys; "position": digits of the positions of keys that equal the chosen one, so that the lower comes first among equals.
// params: count, shift (the digit's lowest bit), mask (the bits above the digit), share (keys of a workgroup).
//
// A workgroup counts a share in memory of its own, then adds. Counts are integers, so their order does not matter. Bound by memory.

var<workgroup> own: array<atomic<u32>, 256>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  for (var d = lane; d < 256u; d += 64u) { atomicStore(&own[d], 0u); }
  workgroupBarrier();
  let first = workgroup_number(id, count) * params.share;
  let end = min(params.count, first + params.share);
  let chosen = state[0];
  let position = state[1];
  for (var i = first + lane; i < end; i += 64u) {
    let key = keys[i];
{% if DIGIT == "key" %}
    if ((key & params.mask) == (chosen & params.mask)) { atomicAdd(&own[(key >> params.shift) & 255u], 1u); }
{% else %}
    if (key == chosen && (i & params.mask) == (position & params.mask)) { atomicAdd(&own[(i >> params.shift) & 255u], 1u); }
{% endif %}
  }
  workgroupBarrier();
  for (var d = lane; d < 256u; d += 64u) {
    let n = atomicLoad(&own[d]);
    if (n > 0u) { atomicAdd(&bins[d], n); }
  }
}
