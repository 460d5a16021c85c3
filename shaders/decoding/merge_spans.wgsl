// Puts the spans of a cache together, which cached_attention.wgsl and latent_attention.wgsl attend to apart, in their order:
// y = Σ exp(highest − max) mixed / Σ exp(highest − max) sum.
//
// mixed [tokens·heads·spans, width], statistics [tokens·heads·spans, 2], y [tokens, heads·width]; token t of sequence s, of `length` tokens, sees the
// positions up to position[s] + t. An invocation computes four columns of one head and token. Bound by memory.

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let item = workgroup_number(id, count) * LANES + lane;
  let pair = item / params.width4;
  let token = pair / params.heads;
  if (token >= params.tokens) { return; }
  let visible = min(position[token / params.length] + token % params.length + 1u, params.capacity);
  let first = pair * params.spans;
  let last = first + (visible + params.span - 1u) / params.span;
  var highest = statistics[2u * first];
  for (var i = first + 1u; i < last; i++) { highest = max(highest, statistics[2u * i]); }
  var sum = 0.0f;
  var total = vec4f();
  for (var i = first; i < last; i++) {
    let weight = exp(statistics[2u * i] - highest);
    sum = fma(weight, statistics[2u * i + 1u], sum);
    total = fma(vec4f(weight), load_mixed(i * params.width4 + item % params.width4), total);
  }
  store_y(item, total / sum);
}
