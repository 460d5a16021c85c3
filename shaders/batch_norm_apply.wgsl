// NORM: y = (x − mean) · inverse · gamma + beta    otherwise y = x + beta (a plain bias).
//
// x, y [rows, width]; the others f32 [width]. An invocation does a vec4. Bound by memory.

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * WORKGROUP + lane;
  if (i >= params.rows * params.width) { return; }
  let column = i % params.width;
{% if NORM %}
  store_y(i, (load_x(i) - load_mean(column)) * load_inverse(column) * load_gamma(column) + load_beta(column));
{% else %}
  store_y(i, load_x(i) + load_beta(column));
{% endif %}
}
