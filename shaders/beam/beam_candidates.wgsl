// The KEPT best ids of an axis for each query, best first; of equal scores the lower id.
//
// s f32 [rows, stride], the first params.size numbers of a row count; value f32, id u32 [rows, KEPT].
//
// A workgroup does a row: it sorts the first SLOTS scores (bitonic.wgsl), keeps the best, and sorts them with the next SLOTS − KEPT until there
// are none. Bound by the sort's steps.

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = workgroup_number(group, count);
  if (row >= params.rows) { return; }
  var next = 0u;
  while (next < params.size) {
    let begin = select(KEPT, 0u, next == 0u);
    for (var i = begin + lane; i < SLOTS; i += THREADS) {
      let key = next + i - begin;
      let there = key < params.size;
      slot_value[i] = select(LOWEST, finite(s[row * params.stride + min(key, params.size - 1u)]), there);
      slot_key[i] = select(NONE, key, there);
    }
    sort_slots(SLOTS, lane);
    next += SLOTS - begin;
  }
  for (var i = lane; i < KEPT; i += THREADS) {
    value[row * KEPT + i] = slot_value[i];
    id[row * KEPT + i] = slot_key[i];
  }
}
