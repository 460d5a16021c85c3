// The diagonal of a square matrix h [n, stride]. ADD: h[i, i] += d[i]; otherwise d[i] = h[i, i]. params: n, stride (numbers).
// An invocation does one number of the diagonal. Bound by memory.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * 64u + lane;
  if (i >= params.n) { return; }
  let at = i * params.stride + i;
{% if ADD %}
  h[at] += d[i];
{% else %}
  d[i] = h[at];
{% endif %}
}
