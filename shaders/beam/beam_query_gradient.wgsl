// Gradient of a beam router's scores, through the codes of the kept ids and the RMS norm, to the queries before the norm.
//
//   dq = exp(logit_scale) · Σ_j dtotal_j code(id_j)       the kept experts j of the row's token and head, in their order
//   draw = factor · (dq − q · mean(q ⊙ dq))               q = raw · factor, factor as in beam_query.wgsl
//   part = q · dq                                         the row's share of the gradient of logit_scale
//
// raw f32 [rows, R4] in vec4s, row (t·H + h)·AXES + a; coords u32 [rows / AXES · TOP, AXES]: a · size + id; dtotal f32 [rows / AXES, TOP];
// codes f32 [size, R4]; logit_scale f32 [groups], groups = H·AXES; draw [rows, R4]; part f32 [T, stride], zero from `groups` on.
//
// Several experts that share an id add up in their order. An invocation does a row. Bound by gathering codes from the cache.

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = workgroup_number(id, count) * WORKGROUP + lane;
  if (row >= params.rows) { return; }
  let group = row % params.groups;
  let axis = row % AXES;
  let first = row / AXES * TOP;
{% for i in range(R4) %}
  var g{{ i }} = vec4f();
{% endfor %}
  for (var j = first; j < first + TOP; j++) {
    let weight = vec4f(dtotal[j]);
    let at = (coords[j * AXES + axis] - axis * params.size) * R4;
{% for i in range(R4) %}
    g{{ i }} = fma(weight, load_codes(at + {{ i }}u), g{{ i }});
{% endfor %}
  }
  let scale = exp(logit_scale[group]);
  var squares = vec4f();
  var products = vec4f();
{% for i in range(R4) %}
  let raw{{ i }} = load_raw(row * R4 + {{ i }}u);
  squares = fma(raw{{ i }}, raw{{ i }}, squares);
  g{{ i }} *= scale;
  products = fma(raw{{ i }}, g{{ i }}, products);
{% endfor %}
  let factor = 1.0 / sqrt(dot(squares, vec4f(1.0)) / f32(4u * R4) + params.epsilon);
  let along = factor * dot(products, vec4f(1.0));
  let mean = factor * along / f32(4u * R4);
{% for i in range(R4) %}
  store_draw(row * R4 + {{ i }}u, factor * (g{{ i }} - mean * raw{{ i }}));
{% endfor %}
  let to = row / params.groups * params.stride;
  part[to + group] = along;
  if (group + 1u == params.groups) {
    for (var i = params.groups; i < params.stride; i++) { part[to + i] = 0.0; }
  }
}
