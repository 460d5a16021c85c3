// h = silu(gate) ⊙ up, silu(x) = x / (1 + e⁻ˣ). gate, up, h: [T, F], as vec4s. params: count (vec4s).
// BIAS: to gate and up come bias_gate and bias_up, f32 [F], first; params.width is F in vec4s. An invocation does one vec4. Bound by memory.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * 64u + lane;
  if (i >= params.count) { return; }
  let g = load_gate(i){{ " + load_bias_gate(i % params.width)" if BIAS }};
  store_h(i, g / (1.0 + exp(-g)) * {{ "(load_up(i) + load_bias_up(i % params.width))" if BIAS else "load_up(i)" }});
}
