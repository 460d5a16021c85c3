// NORM: y = (x − mean) · inverse · gamma + beta    otherwise y = x + beta (a plain bias).
//
// x, y [rows, width]; the others f32 [width]. An invocation does a vec4 of ROWS rows, for which it reads the others once. Bound by memory.

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * WORKGROUP + lane;
  let row = i / params.width * ROWS;
  let column = i % params.width;
  if (row >= params.rows) { return; }
{% for r in range(ROWS) %}
  let x{{ r }} = load_x(min(row + {{ r }}u, params.rows - 1u) * params.width + column);
{% endfor %}
{% if NORM %}
  let mean_here = load_mean(column);
  let inverse_here = load_inverse(column);
  let gamma_here = load_gamma(column);
{% endif %}
  let beta_here = load_beta(column);
{% for r in range(ROWS) %}
  if (row + {{ r }}u < params.rows) {
{% if NORM %}
    store_y((row + {{ r }}u) * params.width + column, (x{{ r }} - mean_here) * inverse_here * gamma_here + beta_here);
{% else %}
    store_y((row + {{ r }}u) * params.width + column, x{{ r }} + beta_here);
{% endif %}
  }
{% endfor %}
}
