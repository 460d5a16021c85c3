// h = gelu(x).    BACKWARD: dx = dh ∘ gelu′(x). All of [T, F], as vec4s of any float types. params: count (vec4s).
// GELU_SOURCE is the text of gelu.wgsl or gelu_exact.wgsl. An invocation does a vec4. Bound by memory.
{{ GELU_SOURCE }}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * 64u + lane;
  if (i >= params.count) { return; }
{% if BACKWARD %}
  store_dx(i, load_dh(i) * gelu_derivative(load_x(i)));
{% else %}
  store_h(i, gelu(load_x(i)));
{% endif %}
}
