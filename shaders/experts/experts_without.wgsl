// score[i] = 0 where the expert of assignment i is among those listed.
//
// index u32 [T, M·AXES]: an expert is AXES numbers; listed u32 [capacity, AXES]: in ascending order, filled up with 0xffffffff, which is no expert; score f32
// [T, M], changed in place. An invocation does one assignment: a binary search, bound by reading the index.

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * WORKGROUP + lane;
  if (i >= params.n) { return; }
  var low = 0u;
  var high = params.capacity;
  while (low < high) {
    let middle = (low + high) / 2u;
    var order = 0;
    for (var axis = 0u; axis < params.axes; axis++) {
      let own = index[i * params.axes + axis];
      let other = listed[middle * params.axes + axis];
      if (own != other) {
        order = select(1, -1, own < other);
        break;
      }
    }
    if (order == 0) {
      score[i] = 0.0;
      return;
    }
    if (order < 0) { high = middle; } else { low = middle + 1u; }
  }
}
