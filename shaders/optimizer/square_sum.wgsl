// partials[first + w] = Σ x² over the w-th of `groups` equal shares of a flat chunk, always in the same order.
// x: [count vec4s] f32; partials: f32. params: count (vec4s), share (vec4s a group), groups, first.
// A workgroup of LANES strides through its share and adds its sums in a fixed tree (rows.wgsl). Bound by memory.

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = workgroup_number(id, count);
  if (group >= params.groups) { return; }
  let end = min(params.count, (group + 1u) * params.share);
  var total = vec4f();
  var i = group * params.share + lane;
  // Four are asked for before the first is added.
  for (; i + 3u * STRIDE < end; i += 4u * STRIDE) {
{% for u in range(4) %}
    let v{{ u }} = load_x(i + {{ u }}u * STRIDE);
{% endfor %}
{% for u in range(4) %}
    total = fma(v{{ u }}, v{{ u }}, total);
{% endfor %}
  }
  for (; i < end; i += STRIDE) {
    let v = load_x(i);
    total = fma(v, v, total);
  }
  let sum = reduce_sum(lane, (total.x + total.y) + (total.z + total.w));
  if (lane == 0u) { partials[params.first + group] = sum; }
}
