// total[slot] = (ADD: total[slot] +) scale · Σ x, in a fixed order. x: [count] f32 scalars. params: count, slot, scale.
// One workgroup: 64 strided sums, then a fixed tree. For vectors of a few thousand numbers, such as the losses of a micro-batch.
var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
  var sum = 0.0;
  for (var i = lane; i < params.count; i += 64u) { sum += x[i]; }
  sums[lane] = sum;
  workgroupBarrier();
  for (var step = 32u; step > 0u; step /= 2u) {
    if (lane < step) { sums[lane] += sums[lane + step]; }
    workgroupBarrier();
  }
  if (lane == 0u) {
{% if ADD %}
    total[params.slot] += params.scale * sums[0];
{% else %}
    total[params.slot] = params.scale * sums[0];
{% endif %}
  }
}
