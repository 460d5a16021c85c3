// Merges the maxima and sums that attention_probabilities_tiled.wgsl gives for each tile of TILE keys into those of whole rows:
// log_sum = log Σ exp(score)    and, in place of the maxima, factors = exp(maximum of the tile − log_sum), which turn a tile's exponentials into probabilities.
//
// maxima, sums [pairs, tiles, queries], log_sum [heads, T]. An invocation takes four queries. The product with the values takes 256 queries at once: the tile
// beyond the diagonal in that gets zeros. Bound by memory.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let item = workgroup_number(id, count) * 64u + lane;
  let pair = item / params.width4;
  let column = item % params.width4;
  if (pair >= params.pairs) { return; }
  let first = pair * params.tiles * params.width4 + column;
  let own = min(4u * column / TILE, params.tiles - 1u);
  var most = load_maxima(first);
  for (var t = 1u; t <= own; t++) { most = max(most, load_maxima(first + t * params.width4)); }
  var total = vec4f();
  for (var t = 0u; t <= own; t++) {
    let at = first + t * params.width4;
    total = fma(load_sums(at), exp(load_maxima(at) - most), total);
  }
  let whole = most + log(total);
  for (var t = 0u; t <= own; t++) {
    let at = first + t * params.width4;
    store_maxima(at, exp(load_maxima(at) - whole));
  }
  if (own % 2u == 0u && own + 1u < params.tiles) { store_maxima(first + (own + 1u) * params.width4, vec4f()); }
  let row = params.s_start + pair / params.heads * params.s_sequence + pair % params.heads * params.s_head + 4u * column;
{% for n in range(4) %}
  if (4u * column + {{ n }}u < params.length) { log_sum[row + {{ n }}u] = whole[{{ n }}]; }
{% endfor %}
}
