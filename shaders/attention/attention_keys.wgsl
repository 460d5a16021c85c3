// Whole keys of every head, as products take them: keys [T, heads·(NOPE+ROPE)] = [k_n | k_r] of kv [T, heads·(NOPE+V)] and kr [T, ROPE]; widths in fours.
// An invocation takes four numbers EACH times, a workgroup's neighbours. Bound by memory.

const QK4 = NOPE4 + ROPE4;

fn part(item: u32) -> vec4f {
  let row = item / QK4;
  let d = item % QK4;
  if (d < NOPE4) { return load_kv(row * (NOPE4 + V4) + d); }
  return load_kr(row / params.heads * ROPE4 + d - NOPE4);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let item = workgroup_number(id, count) * 256u * EACH + lane;
  let end = params.tokens * params.heads * QK4;
{% for e in range(EACH) %}
  let part{{ e }} = part(min(item + {{ 256 * e }}u, end - 1u));
{% endfor %}
{% for e in range(EACH) %}
  if (item + {{ 256 * e }}u < end) { store_keys(item + {{ 256 * e }}u, part{{ e }}); }
{% endfor %}
}
