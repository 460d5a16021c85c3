// Gradient of attention_split.wgsl: d_qkv [T, (heads + 2·kv_heads)·D], columns [queries | keys | values], each by heads, of d_q [T, heads·D] and
// d_kv [T, heads·2·D], per head [k | v]. Query heads that share keys and values are added in their order.
//
// Width D4 in vec4s. An invocation makes a vec4. Bound by memory.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let item = workgroup_number(id, count) * 64u + lane;
  let width = (params.heads + 2u * params.kv_heads) * D4;
  let row = item / width;
  if (row >= params.rows) { return; }
  let head = item % width / D4;
  let d = item % D4;
  if (head < params.heads) {
    store_d_qkv(item, load_d_q((row * params.heads + head) * D4 + d));
    return;
  }
  let part = (head - params.heads) / params.kv_heads;
  let group = params.heads / params.kv_heads;
  let first = row * params.heads + (head - params.heads) % params.kv_heads * group;
  var total = vec4f();
  for (var h = 0u; h < group; h++) { total += load_d_kv((2u * (first + h) + part) * D4 + d); }
  store_d_qkv(item, total);
}
