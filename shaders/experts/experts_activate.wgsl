// The scalars of every kept expert, from p = h · xp, its score s and (backward) q = h · dacc = da:
//
//   a = gelu(p) · s        dp = da · s · gelu'(p)        ds = da · gelu(p)
//
// p, q, score, dscore f32 [n]; entries f32 [n, 4]: a, dp, ds, p.
// MODE "forward": a alone.  "backward": all, and dscore = ds.  "scores": dscore = ds from entries. An invocation does one. Bound by memory.

{{ GELU }}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * WORKGROUP + lane;
  if (i >= params.n) { return; }
{% if MODE == "scores" %}
  dscore[i] = load_entries(i).z;
{% else %}
  let acted = gelu(vec4f(p[i])).x;
{% if MODE == "forward" %}
  store_entries(i, vec4f(acted * score[i], 0.0, 0.0, p[i]));
{% else %}
  let ds = q[i] * acted;
  store_entries(i, vec4f(acted * score[i], q[i] * score[i] * gelu_derivative(vec4f(p[i])).x, ds, p[i]));
  dscore[i] = ds;
{% endif %}
{% endif %}
}
