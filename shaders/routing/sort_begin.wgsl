// Where each key begins among sorted keys: begin[j] is the number of keys below j, for j = 0 … bound.
//
// keys u32 [n], sorted; begin u32 [bound + 1]. An invocation finds one j by bisection. Bound by latency: log2(n) dependent reads, mostly cached.

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let j = workgroup_number(id, count) * WORKGROUP + lane;
  if (j > params.bound) { return; }
  var low = 0u;
  var high = params.n;
  while (low < high) {
    let middle = (low + high) / 2u;
    if (keys[middle] < j) { low = middle + 1u; } else { high = middle; }
  }
  begin[j] = low;
}
