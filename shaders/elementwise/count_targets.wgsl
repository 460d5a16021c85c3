// predictions[0] = max(1, the number of targets that are not 0xffffffff). targets: [count] u32; predictions: [4] f32. params: count.
// One workgroup: LANES strided counts, then a fixed tree (rows.wgsl). Exact up to 2²⁴ targets, more than a micro-batch has.

@compute @workgroup_size(LANES)
fn main(@builtin(local_invocation_index) lane: u32) {
  var sum = 0.0;
  for (var i = lane; i < params.count; i += STRIDE) { sum += select(0.0, 1.0, targets[i] != 0xffffffffu); }
  let whole = reduce_sum(lane, sum);
  if (lane == 0u) { predictions[0] = max(1.0, whole); }
}
