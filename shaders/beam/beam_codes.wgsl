// The latent code of each kept expert, a row of its own: the sum over the axes of rows of a factored table.
//
// z [AXES · size, latent]; coords u32 [·, AXES]: rows of z; out [n, latent] for the experts params.first … first + n − 1; widths in vec4s.
//
// Axes are added in their order. An invocation does four columns of an expert. Bound by writing the codes.

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * WORKGROUP + lane;
  if (i >= params.n * params.latent) { return; }
  let at = (params.first + i / params.latent) * AXES;
  let column = i % params.latent;
  var sum = load_z(coords[at] * params.latent + column);
{% for a in range(1, AXES) %}
  sum += load_z(coords[at + {{ a }}u] * params.latent + column);
{% endfor %}
  store_out(i, sum);
}
