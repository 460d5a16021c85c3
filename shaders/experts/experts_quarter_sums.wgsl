// Four sums over a subgroup at once, for the kernels that hold rows of experts in a subgroup's registers. SIZE invocations. Put before such a kernel.

// The sum over the subgroup of component e, in the e-th quarter of its invocations.
fn quarter_sums(parts: vec4f, lane: u32) -> f32 {
  let high = (lane & {{ SIZE // 2 }}u) != 0u;
  let two = select(parts.xy, parts.zw, high) + subgroupShuffleXor(select(parts.zw, parts.xy, high), {{ SIZE // 2 }}u);
  let odd = (lane & {{ SIZE // 4 }}u) != 0u;
  var sum = select(two.x, two.y, odd) + subgroupShuffleXor(select(two.y, two.x, odd), {{ SIZE // 4 }}u);
{% for step in [4, 2, 1] if step < SIZE // 4 %}
  sum += subgroupShuffleXor(sum, {{ step }}u);
{% endfor %}
  return sum;
}
