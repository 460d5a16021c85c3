// dx = scale · (gain · dy − x · scale² · mean(gain · dy · x)), row by row, and the first stage of dgain = Σ over rows of dy · x · scale, for processors that
// play GPU.   EPILOGUE "none": dx = …   "accumulate": dx += …
//
// x, dy, dx, gain, scale and params as in rmsnorm_backward.wgsl; sum [blocks, columns], each row over a block of rows, as norm_gradients.wgsl adds up.
// Rows and lanes as in norm_lanes.wgsl. Bound by loads and stores, of which there is one of each number.

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let block = workgroup_number(id, count);
  if (block >= params.blocks) { return; }
  let first = block * params.block_rows;
{{ columns() }}
{% for v in range(VECTORS) %}
  let gain{{ v }} = load_gain(column{{ v }});
  var sum{{ v }} = vec4f();
{% endfor %}
  for (var row = first; row < min(first + params.block_rows, params.rows); row++) {
    let x_at = params.x_start + row * params.ldx;
    let dy_at = params.dy_start + row * params.ld_dy;
    let dx_at = params.dx_start + row * params.ld_dx;
    let factor = scale[row];
    var products = vec4f();
{% for v in range(VECTORS) %}
    let x{{ v }} = load_x(x_at + column{{ v }});
    let dy{{ v }} = {{ own(v, "load_dy(dy_at + column" ~ v ~ ")") }};
{% if EPILOGUE == "accumulate" %}
    let before{{ v }} = load_dx(dx_at + column{{ v }});
{% endif %}
    products = fma(gain{{ v }} * dy{{ v }}, x{{ v }}, products);
    sum{{ v }} = fma(dy{{ v }} * factor, x{{ v }}, sum{{ v }});
{% endfor %}
    let along = lanes_sum(lane, dot(products, vec4f(1.0))) / params.columns * factor * factor;
{% for v in range(VECTORS) %}
    {{ if_own(v) }} { store_dx(dx_at + column{{ v }}, {{ "before" ~ v ~ " + " if EPILOGUE == "accumulate" }}factor * (gain{{ v }} * dy{{ v }} - along * x{{ v }})); }
{% endfor %}
  }
{% for v in range(VECTORS) %}
  {{ if_own(v) }} { store_sum(block * params.columns4 + column{{ v }}, sum{{ v }}); }
{% endfor %}
}
