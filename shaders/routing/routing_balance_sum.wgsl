// Sums of runs of the last component: out_j = Σ in [j · run, (j + 1) · run). Two dispatches of it reduce any number of rows in a fixed order.
//
// rows f32 [n, 4]; out f32 [runs, 4] (the sum in its last component; SCALAR: f32 [1]).

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let j = workgroup_number(id, count) * WORKGROUP + lane;
  if (j >= params.runs) { return; }
  var sum = 0.0;
  for (var i = j * params.run; i < min((j + 1u) * params.run, params.n); i++) { sum += load_rows(i).w; }
{% if SCALAR %}
  out[0] = sum;
{% else %}
  store_out(j, vec4f(0.0, 0.0, 0.0, sum));
{% endif %}
}
