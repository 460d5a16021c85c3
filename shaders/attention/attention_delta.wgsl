// delta = Σ over a head's columns of d_o · o, which is what the softmax's backward pass subtracts.
//
// o, d_o [T, heads·V], delta [heads, T]. An invocation takes one token of one head. Bound by memory.

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let item = workgroup_number(id, count) * LANES + lane;
  if (item >= params.tokens * params.heads) { return; }
  var total = vec4f();
{% for d in range(V4) %}
  total = fma(load_d_o(item * V4 + {{ d }}u), load_o(item * V4 + {{ d }}u), total);
{% endfor %}
  delta[item % params.heads * params.tokens + item / params.heads] = dot(total, vec4f(1.0));
}
