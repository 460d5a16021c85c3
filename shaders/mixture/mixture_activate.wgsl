// The activation of experts with biases: h = gelu(x + bias of the row's group).    BACKWARD: dx = dh ∘ gelu′(x + bias).
//
// x, h, dh, dx [rows, width]; of_tile u32 [rows / TILE], the group of each tile of rows; bias f32 [groups, width], only where BIAS says so. Rows of tiles without a group are left alone.
// params in vec4s. GELU_SOURCE is the text of gelu.wgsl or gelu_exact.wgsl. An invocation does a vec4. Bound by memory.
{{ GELU_SOURCE }}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * 64u + lane;
  if (i >= params.rows * params.width) { return; }
  let group = of_tile[i / params.width / TILE];
  if (group >= params.groups) { return; }
  let v = load_x(i){{ " + load_bias(group * params.width + i % params.width)" if BIAS }};
{% if BACKWARD %}
  store_dx(i, load_dh(i) * gelu_derivative(v));
{% else %}
  store_h(i, gelu(v));
{% endif %}
}
