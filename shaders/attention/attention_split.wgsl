// Queries, keys and values of every head from one product: q [T, heads·D] and kv [T, copies·2·D], per head [k | v], of
// qkv [T, (heads + 2·kv_heads)·D], columns [queries | keys | values], each by heads, plus bias [(heads + 2·kv_heads)·D] (BIAS).
//
// Head h of kv is head h / (copies / kv_heads) of the keys and values: `copies` is kv_heads, or the number of query heads, which share
// keys and values in groups. Width D4 in vec4s. An invocation moves a vec4. Bound by memory.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let item = workgroup_number(id, count) * 64u + lane;
  let width = (params.heads + 2u * params.copies) * D4;
  let row = item / width;
  if (row >= params.rows) { return; }
  let head = item % width / D4;
  let d = item % D4;
  // Of kv, heads count twice: keys and values.
  let place = head - min(head, params.heads);
  let group = place / 2u / (params.copies / params.kv_heads);
  let source = select(params.heads + place % 2u * params.kv_heads + group, head, head < params.heads) * D4 + d;
  var v = load_qkv(row * (params.heads + 2u * params.kv_heads) * D4 + source);
{% if BIAS %}
  v += load_bias(source);
{% endif %}
  if (head < params.heads) { store_q(row * params.heads * D4 + head * D4 + d, v); }
  else { store_kv(row * 2u * params.copies * D4 + place * D4 + d, v); }
}
