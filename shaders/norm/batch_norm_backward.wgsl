// dx = gamma · inverse · (dy − Σdy / rows − x̂ · Σ(dy · x̂) / rows),   x̂ = (x − mean) · inverse.
//
// dy, x, dx [rows, width]; sums f32 [2, width]; mean, inverse, gamma f32 [width]. An invocation does a vec4 of ROWS rows, for which it reads the others once.
// Bound by memory.

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * WORKGROUP + lane;
  let row = i / params.width * ROWS;
  let column = i % params.width;
  if (row >= params.rows) { return; }
{% for r in range(ROWS) %}
  let at{{ r }} = min(row + {{ r }}u, params.rows - 1u) * params.width + column;
  let x{{ r }} = load_x(at{{ r }});
  let dy{{ r }} = load_dy(at{{ r }});
{% endfor %}
  let mean_here = load_mean(column);
  let inverse_here = load_inverse(column);
  let gamma_here = load_gamma(column);
  let sum = load_sums(column);
  let product = load_sums(params.width + column);
{% for r in range(ROWS) %}
  {
    let unit = (x{{ r }} - mean_here) * inverse_here;
    let centred = dy{{ r }} - (sum + unit * product) / f32(params.rows);
    if (row + {{ r }}u < params.rows) { store_dx(at{{ r }}, gamma_here * inverse_here * centred); }
  }
{% endfor %}
}
