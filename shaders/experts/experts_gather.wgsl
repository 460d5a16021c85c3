// Gathers the hypernetwork's input for each assignment: rows [z_i ; code_t].
//
// z [count, d_latent]: experts first … first + count − 1, others are left to other dispatches; index u32 [T · per];
// CONTEXT: code [T, d_context]; out [n, d_latent + d_context] for assignments start … start + n − 1. params in vec4s.
// DROPS: an assignment of params.none, which is no expert, gets zeros from the dispatch of the first experts.
// An invocation copies a vec4. Bound by memory.

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * WORKGROUP + lane;
  let width = params.latent + params.context;
  if (i >= params.n * width) { return; }
  let assignment = params.start + i / width;
  let column = i % width;
{% if DROPS %}
  if (index[assignment] == params.none) {
    if (params.first == 0u) { store_out(i, vec4f()); }
    return;
  }
{% endif %}
  let row = index[assignment] - params.first;
  if (index[assignment] < params.first || row >= params.count) { return; }
{% if CONTEXT %}
  if (column >= params.latent) {
    store_out(i, load_code(assignment / params.per * params.context + column - params.latent));
    return;
  }
{% endif %}
  store_out(i, load_z(row * params.latent + column));
}
