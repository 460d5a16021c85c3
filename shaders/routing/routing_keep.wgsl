// How many of a head's best experts a token keeps, and the softmax over those.
//
// MASS: the fewest best ones whose scores come to params.least; otherwise those whose score is at least params.least. At least params.min of TOP in both.
// index u32, score f32 [rows, TOP], best first: scores become those over the kept experts, 0 for the others. used u32 [rows, TOP]: the kept experts, params.none in the place
// of others. number u32 [rows]. BALANCE: counts u32 [2 · keys + 1], added to: how often each sub-key of both axes was kept, and all kept experts. Integer atomics: the sums do not
// depend on their order. An invocation does a row. Bound by memory.

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = workgroup_number(id, count) * WORKGROUP + lane;
  if (row >= params.rows) { return; }
  let begin = row * TOP;
  var n = 0u;
  var sum = 0.0;
{% if MASS %}
  while (n < TOP && (n < params.min || sum < params.least)) {
{% else %}
  while (n < TOP && (n < params.min || score[begin + n] >= params.least)) {
{% endif %}
    sum += score[begin + n];
    n += 1u;
  }
  for (var j = 0u; j < TOP; j++) {
    let kept = j < n;
    score[begin + j] = select(0.0, score[begin + j] / sum, kept);
    used[begin + j] = select(params.none, index[begin + j], kept);
{% if BALANCE %}
    if (kept) {
      atomicAdd(&counts[index[begin + j] / params.keys], 1u);
      atomicAdd(&counts[params.keys + index[begin + j] % params.keys], 1u);
    }
{% endif %}
  }
  number[row] = n;
{% if BALANCE %}
  atomicAdd(&counts[2u * params.keys], n);
{% endif %}
}
