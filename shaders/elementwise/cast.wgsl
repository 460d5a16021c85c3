// y[i] = x[i], between element types. params: count (vec4s). An invocation converts EACH vec4s, a workgroup's neighbours. Bound by memory.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * 64u * EACH + lane;
{% for e in range(EACH) %}
  let x{{ e }} = load_x(min(i + {{ 64 * e }}u, params.count - 1u));
{% endfor %}
{% for e in range(EACH) %}
  if (i + {{ 64 * e }}u < params.count) { store_y(i + {{ 64 * e }}u, x{{ e }}); }
{% endfor %}
}
