// With σ = 1/(1 + e⁻ᵍ): dup = dh ⊙ gate σ, dgate = dh ⊙ up ⊙ σ (1 + gate (1 − σ)). gate, up, dh, dgate, dup: [T, F], as vec4s.
// BIAS: to gate and up come bias_gate and bias_up, f32 [F], first; params.width is F in vec4s.
// params: count (vec4s). An invocation does one vec4. Bound by memory.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * 64u + lane;
  if (i >= params.count) { return; }
  let g = load_gate(i){{ " + load_bias_gate(i % params.width)" if BIAS }};
  let dh = load_dh(i);
  let s = 1.0 / (1.0 + exp(-g));
  store_dgate(i, dh * {{ "(load_up(i) + load_bias_up(i % params.width))" if BIAS else "load_up(i)" }} * s * (1.0 + g * (1.0 - s)));
  store_dup(i, dh * g * s);
}
