// dx = gamma · inverse · (dy − Σdy / rows − x̂ · Σ(dy · x̂) / rows),   x̂ = (x − mean) · inverse.
//
// dy, x, dx [rows, width]; sums f32 [2, width]; mean, inverse, gamma f32 [width]. An invocation does a vec4. Bound by memory.

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * WORKGROUP + lane;
  if (i >= params.rows * params.width) { return; }
  let column = i % params.width;
  let inverse_here = load_inverse(column);
  let unit = (load_x(i) - load_mean(column)) * inverse_here;
  let centred = load_dy(i) - (load_sums(column) + unit * load_sums(params.width + column)) / f32(params.rows);
  store_dx(i, load_gamma(column) * inverse_here * centred);
}
