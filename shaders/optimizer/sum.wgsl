// total[slot] = (ADD: total[slot] +) scale · Σ x, with DIVIDED over divisor[0], in a fixed order. x: [count] f32 scalars. params: count, slot, scale.
// One workgroup: LANES strided sums, then a fixed tree (rows.wgsl). For vectors of a few thousand numbers, such as the losses of a
// micro-batch.

@compute @workgroup_size(LANES)
fn main(@builtin(local_invocation_index) lane: u32) {
  var sum = 0.0;
  for (var i = lane; i < params.count; i += STRIDE) { sum += x[i]; }
{% if DIVIDED %}
  let whole = reduce_sum(lane, sum) / divisor[0];
{% else %}
  let whole = reduce_sum(lane, sum);
{% endif %}
  if (lane == 0u) {
{% if ADD %}
    total[params.slot] += params.scale * whole;
{% else %}
    total[params.slot] = params.scale * whole;
{% endif %}
  }
}
