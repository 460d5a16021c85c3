// h = gelu(x + bias).    BACKWARD: dx = dh ∘ gelu′(x + bias).
//
// x, h, dh, dx: [T, F], as vec4s; bias f32 [F], only where BIAS says so. params: count (vec4s), width (F in vec4s).
// GELU_SOURCE is the text of gelu.wgsl or gelu_exact.wgsl. An invocation does one vec4. Bound by memory.
{{ GELU_SOURCE }}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * 64u + lane;
  if (i >= params.count) { return; }
  let v = load_x(i){{ " + load_bias(i % params.width)" if BIAS }};
{% if BACKWARD %}
  store_dx(i, load_dh(i) * gelu_derivative(v));
{% else %}
  store_h(i, gelu(v));
{% endif %}
}
