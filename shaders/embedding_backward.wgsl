// dE[id] += Σ dx[t] over the positions t of token id, in the order of t: order[begin[id] … begin[id + 1]].
// order: [T], begin: [V + 1] u32; dx: [T, D] f32; de: [part rows, D] f32. params: width (vec4s), first (first row of the part), rows.
// An invocation owns one vec4 of one row, so sums have one order and need no atomics. Bound by memory.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * 64u + lane;
  if (i >= params.rows * params.width) { return; }
  let token = params.first + i / params.width;
  let end = begin[token + 1u];
  var at = begin[token];
  if (at == end) { return; }
  var sum = load_de(i);
  for (; at < end; at++) { sum += load_dx(order[at] * params.width + i % params.width); }
  store_de(i, sum);
}
