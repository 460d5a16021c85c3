// The gradient of whole keys, d_keys [T, heads·(NOPE+ROPE)], goes to where its parts belong: d_kv [T, heads·(NOPE+V)] and d_kr [T, heads·ROPE]; widths in fours.
// An invocation takes four numbers EACH times, a workgroup's neighbours. Bound by memory.

const QK4 = NOPE4 + ROPE4;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let item = workgroup_number(id, count) * 256u * EACH + lane;
  let end = params.tokens * params.heads * QK4;
{% for e in range(EACH) %}
  let part{{ e }} = load_d_keys(min(item + {{ 256 * e }}u, end - 1u));
{% endfor %}
{% for e in range(EACH) %}
  if (item + {{ 256 * e }}u < end) {
    let row = (item + {{ 256 * e }}u) / QK4;
    let d = (item + {{ 256 * e }}u) % QK4;
    if (d < NOPE4) { store_d_kv(row * (NOPE4 + V4) + d, part{{ e }}); }
    else { store_d_kr(row * ROPE4 + d - NOPE4, part{{ e }}); }
  }
{% endfor %}
}
