// p = h · x for every kept expert, and (PAIR) q = h · g: what the experts' activations, and their gradients, are made of.
//
// table: rows h (stride ldh, offset h_start), those of experts first … first + count − 1, or with DIRECT one for each assignment from params.start on.
// x [T, ·] (stride ldx), g [T, ·] (stride ldg); index u32, p, q f32 [T · per]; params in vec4s. Assignments of experts that the table doesn't hold are left alone.
// CONTEXT: h = gelu(table + c), c at offset c_start in the rows of x.
// ACTIVATE (software): goes on to what experts_activate.wgsl makes of p and q, which stay in registers: entries f32 [n, 4]: a, dp, ds, p (without PAIR a and p),
// from score f32 [n]; with PAIR dscore f32 [n], written.
//
// Software: an invocation does an assignment. Otherwise eight invocations share one and 16 assignments a workgroup. Bound by gathering the table's rows.

{% if CONTEXT or ACTIVATE %}
{{ GELU }}
{% endif %}

struct Row { ok: bool, at: u32 }

fn row_of(assignment: u32) -> Row {
{% if DIRECT %}
  return Row(true, params.h_start + (assignment - params.start) * params.ldh);
{% else %}
  let row = index[assignment] - params.first;
  return Row(index[assignment] >= params.first && row < params.count, params.h_start + row * params.ldh);
{% endif %}
}

fn hidden(row: u32, token: u32, column: u32) -> vec4f {
{% if CONTEXT %}
  return gelu(load_table(row + column) + load_x(token * params.ldx + params.c_start + column));
{% else %}
  return load_table(row + column);
{% endif %}
}

{% if SOFTWARE %}
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * 64u + lane;
  if (i >= params.n) { return; }
  let assignment = params.start + i;
  let row = row_of(assignment);
  if (!row.ok) { return; }
  let token = assignment / params.per;
  var x_sum = vec4f();
{% if PAIR %}
  var g_sum = vec4f();
{% endif %}
  for (var c = 0u; c < params.width; c++) {
    let h = hidden(row.at, token, c);
    x_sum = fma(h, load_x(token * params.ldx + c), x_sum);
{% if PAIR %}
    g_sum = fma(h, load_g(token * params.ldg + c), g_sum);
{% endif %}
  }
  let p_here = dot(x_sum, vec4f(1.0));
{% if PAIR %}
  let q_here = dot(g_sum, vec4f(1.0));
{% endif %}
{% if ACTIVATE %}
  let acted = gelu(vec4f(p_here)).x;
  let weight = score[assignment];
{% if PAIR %}
  let ds = q_here * acted;
  store_entries(assignment, vec4f(acted * weight, q_here * weight * gelu_derivative(vec4f(p_here)).x, ds, p_here));
  dscore[assignment] = ds;
{% else %}
  store_entries(assignment, vec4f(acted * weight, 0.0, 0.0, p_here));
{% endif %}
{% else %}
  p[assignment] = p_here;
{% if PAIR %}
  q[assignment] = q_here;
{% endif %}
{% endif %}
}
{% else %}
var<workgroup> parts: array<vec2f, 128>;

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let base = workgroup_number(id, count) * 16u;
  if (base >= params.n) { return; }
  let assignment = params.start + min(base + lane / 8u, params.n - 1u);
  let row = row_of(assignment);
  let token = assignment / params.per;
  var x_sum = vec4f();
  var g_sum = vec4f();
  if (row.ok) {
    for (var c = lane % 8u; c < params.width; c += 8u) {
      let h = hidden(row.at, token, c);
      x_sum = fma(h, load_x(token * params.ldx + c), x_sum);
{% if PAIR %}
      g_sum = fma(h, load_g(token * params.ldg + c), g_sum);
{% endif %}
    }
  }
  parts[lane] = vec2f(dot(x_sum, vec4f(1.0)), dot(g_sum, vec4f(1.0)));
  workgroupBarrier();
  if (lane % 8u == 0u && base + lane / 8u < params.n && row.ok) {
    var sum = parts[lane];
{% for i in range(1, 8) %}
    sum += parts[lane + {{ i }}u];
{% endfor %}
    p[assignment] = sum.x;
{% if PAIR %}
    q[assignment] = sum.y;
{% endif %}
  }
}
{% endif %}
