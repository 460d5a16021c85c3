// Load balance, token by token: Σ_e f_e p_e, p the softmax over all experts' logits, f_e the share of the kept slots that are e's.
//
// logits f32 [T, stride]; begin u32 [experts + 1 or more]: where each expert's slots begin among the sorted ones; out f32 [T, 4], the term in its last component, times
// params.weight. An invocation does a token. Bound by reading the logits.

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let token = workgroup_number(id, count) * WORKGROUP + lane;
  if (token >= params.tokens) { return; }
  let at = token * params.stride;
  var most = logits[at];
  for (var e = 1u; e < params.experts; e++) { most = max(most, logits[at + e]); }
  var all = 0.0;
  var along = 0.0;
  for (var e = 0u; e < params.experts; e++) {
    let p = exp(logits[at + e] - most);
    all += p;
    along += p * f32(begin[e + 1u] - begin[e]);
  }
  store_out(token, vec4f(0.0, 0.0, 0.0, params.weight * along / (all * f32(begin[params.experts]))));
}
