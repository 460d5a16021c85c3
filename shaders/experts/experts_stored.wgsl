// Stored experts, the kept ones of a token in one pass over their rows of two tables, without subgroups.
//
//   p_j = u_j · x_t     a_j = gelu(p_j) · s_j     y_t += Σ_j a_j v_j
// BACKWARD, with dy_t in the place of x_t and the tables exchanged: da_j = v_j · dy_t, dp_j = da_j · s_j · gelu'(p_j), ds_j = da_j · gelu(p_j), dx_t += Σ_j dp_j u_j.
//
// first, second [count, width]: u and v (BACKWARD: v and u) of experts params.first … first + count − 1; x [T, width]: x (BACKWARD: dy); index u32, score f32 [T · per] in
// ascending order of the experts in a token; p f32 [T · per], written (BACKWARD: read); entries f32 [T · per, 4]: a, dp, ds, p; out f32 [T, width], added to unless params.initial
// is 1. Assignments of experts that the tables don't hold are left alone. params in vec4s.
//
// Software: an invocation does the kept experts start … end − 1 of a token, and its sum stays in memory. Otherwise a workgroup of LANES does a token, four experts at a time: an invocation owns
// TILES · 4 columns, and sums meet in workgroup memory. Bound by gathering the rows, each once.

{{ GELU }}

fn held(assignment: u32) -> bool {
  return index[assignment] >= params.first && index[assignment] - params.first < params.count;
}

// A sum over a row becomes its assignment's weight of the other table's row.
fn weigh(assignment: u32, total: f32) -> f32 {
{% if BACKWARD %}
  return total * score[assignment] * gelu_derivative(vec4f(p[assignment])).x;
{% else %}
  return gelu(vec4f(total)).x * score[assignment];
{% endif %}
}

fn keep(assignment: u32, total: f32, weight: f32) {
{% if BACKWARD %}
  let acted = gelu(vec4f(p[assignment])).x;
  store_entries(assignment, vec4f(acted * score[assignment], weight, total * acted, p[assignment]));
{% else %}
  p[assignment] = total;
{% endif %}
}

{% if SOFTWARE %}
@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let token = workgroup_number(id, count) * 8u + lane;
  if (token >= params.tokens) { return; }
  let to = token * params.width;
  if (params.initial == 1u) {
    for (var c = 0u; c < params.width; c++) { store_out(to + c, vec4f()); }
  }
  for (var j = params.start; j < params.end; j++) {
    let assignment = token * params.per + j;
    if (!held(assignment)) { continue; }
    let row = (index[assignment] - params.first) * params.width;
    var total4 = vec4f();
    for (var c = 0u; c < params.width; c++) { total4 = fma(load_first(row + c), load_x(to + c), total4); }
    let total = dot(total4, vec4f(1.0));
    let weight = weigh(assignment, total);
    keep(assignment, total, weight);
    for (var c = 0u; c < params.width; c++) { store_out(to + c, fma(vec4f(weight), load_second(row + c), load_out(to + c))); }
  }
}
{% else %}
var<workgroup> parts: array<vec4f, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let token = workgroup_number(id, count);
  if (token >= params.tokens) { return; }
  let begin = token * params.per;
{% for i in range(TILES) %}
  let own{{ i }} = lane + {{ i }}u * LANES < params.width;
  let column{{ i }} = min(lane + {{ i }}u * LANES, params.width - 1u);
  let x{{ i }} = select(vec4f(), load_x(token * params.width + column{{ i }}), own{{ i }});
  var sum{{ i }} = vec4f();
  if (params.initial == 0u) { sum{{ i }} = load_out(token * params.width + column{{ i }}); }
{% endfor %}
  for (var j = 0u; j < params.per; j += 4u) {
    var total = vec4f();
{% for e in range(4) %}
    let assignment{{ e }} = begin + min(j + {{ e }}u, params.per - 1u);
    let ok{{ e }} = j + {{ e }}u < params.per && held(assignment{{ e }});
    let at{{ e }} = select(0u, index[assignment{{ e }}] - params.first, ok{{ e }}) * params.width;
{% for i in range(TILES) %}
    var second{{ e }}_{{ i }} = vec4f();
{% endfor %}
    if (ok{{ e }}) {
      total[{{ e }}] = {% for i in range(TILES) %}{{ " + " if i > 0 else "" }}dot(load_first(at{{ e }} + column{{ i }}), x{{ i }}){% endfor %};
{% for i in range(TILES) %}
      second{{ e }}_{{ i }} = load_second(at{{ e }} + column{{ i }});
{% endfor %}
    }
{% endfor %}
    workgroupBarrier();
    parts[lane] = total;
    workgroupBarrier();
{% for step in [128, 64, 32, 16, 8, 4, 2, 1] if step < LANES %}
    if (lane < {{ step }}u) { parts[lane] += parts[lane + {{ step }}u]; }
    workgroupBarrier();
{% endfor %}
    let whole = parts[0];
{% for e in range(4) %}
    if (ok{{ e }}) {
      let weight = weigh(assignment{{ e }}, whole[{{ e }}]);
      if (lane == 0u) { keep(assignment{{ e }}, whole[{{ e }}], weight); }
{% for i in range(TILES) %}
      sum{{ i }} = fma(vec4f(weight), second{{ e }}_{{ i }}, sum{{ i }});
{% endfor %}
    }
{% endfor %}
  }
{% for i in range(TILES) %}
  if (own{{ i }}) { store_out(token * params.width + column{{ i }}, sum{{ i }}); }
{% endfor %}
}
{% endif %}
