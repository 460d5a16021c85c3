// y = x · scale · gain, scale = 1 / √(mean(x²) + epsilon), row by row, for processors that play GPU.
//
// x, y, gain, scale and params as in rmsnorm_forward.wgsl; rows and lanes as in norm_lanes.wgsl. Bound by loads and stores, of which there is one of each number.

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let first = workgroup_number(id, count) * params.block_rows;
{{ columns() }}
{% for v in range(VECTORS) %}
  let gain{{ v }} = load_gain(column{{ v }});
{% endfor %}
  for (var row = first; row < min(first + params.block_rows, params.rows); row++) {
    let x_at = params.x_start + row * params.ldx;
    let y_at = params.y_start + row * params.ldy;
    var squares = vec4f();
{% for v in range(VECTORS) %}
    let x{{ v }} = {{ own(v, "load_x(x_at + column" ~ v ~ ")") }};
    squares = fma(x{{ v }}, x{{ v }}, squares);
{% endfor %}
    let total = lanes_sum(lane, dot(squares, vec4f(1.0)));
    let factor = 1.0 / sqrt(total / params.columns + params.epsilon);
{% for v in range(VECTORS) %}
    {{ if_own(v) }} { store_y(y_at + column{{ v }}, x{{ v }} * factor * gain{{ v }}); }
{% endfor %}
    if (lane == 0u) { scale[row] = factor; }
  }
}
