// Whole keys of every head, as products take them: keys [T, heads·(NOPE+ROPE)] = [k_n | k_r] of kv [T, heads·(NOPE+V)] and kr [T, ROPE]; widths in fours.
// An invocation takes four numbers. Bound by memory.

const QK4 = NOPE4 + ROPE4;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let item = workgroup_number(id, count) * 256u + lane;
  let row = item / QK4;
  let d = item % QK4;
  if (row >= params.tokens * params.heads) { return; }
  if (d < NOPE4) { store_keys(item, load_kv(row * (NOPE4 + V4) + d)); }
  else { store_keys(item, load_kr(row / params.heads * ROPE4 + d - NOPE4)); }
}
