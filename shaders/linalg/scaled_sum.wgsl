// y = scale · x, or with ACCUMULATE y += scale · x. params: count (vec4s), scale.
// An invocation does one vec4. Bound by memory.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * 64u + lane;
  if (i >= params.count) { return; }
{% if ACCUMULATE %}
  store_y(i, fma(vec4f(params.scale), load_x(i), load_y(i)));
{% else %}
  store_y(i, params.scale * load_x(i));
{% endif %}
}
