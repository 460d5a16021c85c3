// The gradient of whole keys, d_keys [T, heads·(NOPE+ROPE)], goes to where its parts belong: d_kv [T, heads·(NOPE+V)] and d_kr [T, heads·ROPE]; widths in fours.
// An invocation takes four numbers. Bound by memory.

const QK4 = NOPE4 + ROPE4;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let item = workgroup_number(id, count) * 256u + lane;
  let row = item / QK4;
  let d = item % QK4;
  if (row >= params.tokens * params.heads) { return; }
  if (d < NOPE4) { store_d_kv(row * (NOPE4 + V4) + d, load_d_keys(item)); }
  else { store_d_kr(row * ROPE4 + d - NOPE4, load_d_keys(item)); }
}
