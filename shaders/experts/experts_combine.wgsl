// Sums over a token's kept experts, in their order.
//
// KIND "weighted": out_t = Σ_j e_j · h_j, e_j component COMPONENT of the assignment's entry (0: a, 1: dp)
//      "plain":    out_t = Σ_j h_j
//      "context":  out_t = Σ_j (a_j · g_t + dp_j · x_t) ⊙ gelu'(table_j + c_t), the gradient of the context's part
//
// table: rows h (stride ldh, offset h_start) of experts first … first + count − 1, or with DIRECT one for each assignment from token params.start on.
// entries f32 [T, per, 4] (a, dp, ds, p); x [T, ·] (stride ldx), c at offset c_start in its rows; g [T, ·] (stride ldg);
// out [T, ·] (stride ldo, offset o_start), added to unless params.initial is 1. CONTEXT: h = gelu(table + c). params in vec4s.
//
// An invocation does four columns of a token. Bound by gathering the table's rows.

{% if CONTEXT or KIND == "context" %}
{{ GELU }}
{% endif %}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * WORKGROUP + lane;
  if (i >= params.tokens * params.width) { return; }
  let token = params.start + i / params.width;
  let column = i % params.width;
  let to = params.o_start + token * params.ldo + column;
  var sum = vec4f();
  if (params.initial == 0u) { sum = load_out(to); }
{% if CONTEXT or KIND == "context" %}
  let c = load_x(token * params.ldx + params.c_start + column);
{% endif %}
{% if KIND == "context" %}
  let x_here = load_x(token * params.ldx + column);
  let g_here = load_g(token * params.ldg + column);
{% endif %}
  for (var assignment = token * params.per; assignment < (token + 1u) * params.per; assignment++) {
{% if DIRECT %}
    let row = assignment - params.start * params.per;
{% else %}
    let row = index[assignment] - params.first;
    if (index[assignment] < params.first || row >= params.count) { continue; }
{% endif %}
    let stored = load_table(params.h_start + row * params.ldh + column);
{% if KIND == "context" %}
    let e = load_entries(assignment);
    sum += (e.x * g_here + e.y * x_here) * gelu_derivative(stored + c);
{% else %}
{% if CONTEXT %}
    let h = gelu(stored + c);
{% else %}
    let h = stored;
{% endif %}
{% if KIND == "plain" %}
    sum += h;
{% else %}
    sum = fma(vec4f(load_entries(assignment)[COMPONENT]), h, sum);
{% endif %}
{% endif %}
  }
  store_out(to, sum);
}
