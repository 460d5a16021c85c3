// y[i] = x[i] over vec4s, for what the device's memory gives and nothing else. params: count (vec4s), threads.
// An invocation copies PER vec4s: all loads are under way before the first store. They are WORKGROUP apart, so that a workgroup
// copies one block, or (SPREAD) as far apart as there are invocations. Bound by memory.
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
{% if SPREAD %}
  let first = workgroup_number(id, count) * WORKGROUP + lane;
  let stride = params.threads;
  if (first >= stride) { return; }
{% else %}
  let first = workgroup_number(id, count) * (WORKGROUP * PER) + lane;
  let stride = WORKGROUP;
{% endif %}
  if (first + (PER - 1u) * stride < params.count) {
{% for r in range(PER) %}    let v{{ r }} = x[first + {{ r }}u * stride];
{% endfor %}{% for r in range(PER) %}    y[first + {{ r }}u * stride] = v{{ r }};
{% endfor %}    return;
  }
{% for r in range(PER) %}  if (first + {{ r }}u * stride < params.count) { y[first + {{ r }}u * stride] = x[first + {{ r }}u * stride]; }
{% endfor %}}
