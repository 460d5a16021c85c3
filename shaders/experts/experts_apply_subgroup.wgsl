// The kept experts of a token in one pass over their rows, what experts_project, experts_activate and experts_combine do in two: the rows stay in registers.
//
//   p = h_j · xp_t     a = gelu(p) · s     acc_t = Σ_j a h_j
// BACKWARD: da = h_j · dacc_t, dp = da · s · gelu'(p), ds = da · gelu(p), dxp_t = Σ_j dp h_j,
//   CONTEXT: dc_t = Σ_j (a · dacc_t + dp · xp_t) ⊙ gelu'(table_j + c_t).
//
// table: rows h [count, width] (CONTEXT: h = gelu(table + c_t)) of experts first … first + count − 1; x [T, ·] (stride ldx): xp, then c; index u32, score f32 [T · per];
// g [T, width]; entries f32 [T · per, 4]: a, dp, ds, p; dscore f32 [T · per]; out [T, ·] (stride ldo): acc, or dxp and then dc; added to unless params.initial is 1.
// Assignments of experts that the table doesn't hold are left alone. params in vec4s.
//
// A subgroup does a token: an invocation owns TILES · 4 columns of xp, dacc and the sum, and of the rows, of which four are loaded at a time. Four sums over the
// subgroup are made at once, each step halving how many an invocation still adds up, so that a quarter of the subgroup ends with each. GUARD: some assignments may
// be left out (other ranges, a number of kept experts that is not a multiple of four). EDGE: the width is not a multiple of the subgroup's.
// DROPS: the experts that a token keeps come first, and in the place of the others is params.none, where the loops over them end.
// Bound by gathering the table's rows, each once.

{{ GELU }}

@compute @workgroup_size({{ ROWS * SIZE }})
fn main(
  @builtin(workgroup_id) id: vec3u,
  @builtin(num_workgroups) count: vec3u,
  @builtin(local_invocation_index) invocation: u32,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let token = workgroup_number(id, count) * ROWS + invocation / SIZE;
  if (token >= params.tokens) { return; }
{% for i in range(TILES) %}
{% if EDGE %}
  let own{{ i }} = lane + {{ i }}u * SIZE < params.width;
  let column{{ i }} = min(lane + {{ i }}u * SIZE, params.width - 1u);
  // Beyond the width x and g count as zero, so that p and da do not see what is there.
  let x{{ i }} = select(vec4f(), load_x(token * params.ldx + column{{ i }}), own{{ i }});
{% else %}
  let column{{ i }} = lane + {{ i }}u * SIZE;
  let x{{ i }} = load_x(token * params.ldx + column{{ i }});
{% endif %}
  let to{{ i }} = token * params.ldo + column{{ i }};
  var sum{{ i }} = vec4f();
  if (params.initial == 0u) { sum{{ i }} = load_out(to{{ i }}); }
{% if BACKWARD %}
  let g{{ i }} = {% if EDGE %}select(vec4f(), load_g(token * params.width + column{{ i }}), own{{ i }}){% else %}load_g(token * params.width + column{{ i }}){% endif %};
{% endif %}
{% if CONTEXT %}
  let c{{ i }} = load_x(token * params.ldx + params.width + column{{ i }});
{% if BACKWARD %}
  var context_sum{{ i }} = vec4f();
  if (params.initial == 0u) { context_sum{{ i }} = load_out(to{{ i }} + params.width); }
{% endif %}
{% endif %}
{% endfor %}

  let quarter = lane / {{ SIZE // 4 }}u;
  for (var base = 0u; base < params.per{% if DROPS %} && index[token * params.per + base] != params.none{% endif %}; base += SIZE) {
    // An invocation knows one assignment, and tells the others.
    let known = token * params.per + min(base + lane, params.per - 1u);
    let known_score = score[known];
{% if GUARD %}
    let known_row = index[known] - params.first;
    let known_ok = index[known] >= params.first && known_row < params.count && base + lane < params.per;
    let known_at = select(0u, known_row, known_ok) * params.width;
{% else %}
    let known_at = (index[known] - params.first) * params.width;
{% endif %}
    for (var j = 0u; j < min(SIZE, params.per - base){% if DROPS %} && index[token * params.per + base + j] != params.none{% endif %}; j += 4u) {
{% for e in range(4) %}
      let at{{ e }} = subgroupShuffle(known_at, j + {{ e }}u);
{% if GUARD %}
      let ok{{ e }} = subgroupShuffle(select(0u, 1u, known_ok), j + {{ e }}u) == 1u;
{% endif %}
{% for i in range(TILES) %}
      let stored{{ e }}_{{ i }} = load_table(at{{ e }} + column{{ i }}){{ " + c" ~ i if CONTEXT else "" }};
{% endfor %}
{% endfor %}
{% for e in range(4) %}
{% for i in range(TILES) %}
{% set value = ("gelu(stored" if CONTEXT else "(stored") ~ e ~ "_" ~ i ~ ")" %}
      let h{{ e }}_{{ i }} = {% if GUARD %}select(vec4f(), {{ value }}, ok{{ e }}){% else %}{{ value }}{% endif %};
{% endfor %}
      let p{{ e }} = {% for i in range(TILES) %}{{ " + " if i > 0 else "" }}dot(h{{ e }}_{{ i }}, x{{ i }}){% endfor %};
{% if BACKWARD %}
      let q{{ e }} = {% for i in range(TILES) %}{{ " + " if i > 0 else "" }}dot(h{{ e }}_{{ i }}, g{{ i }}){% endfor %};
{% endif %}
{% endfor %}
      let p = quarter_sums(vec4f(p0, p1, p2, p3), lane);
      let acted = gelu(vec4f(p)).x;
      let s = subgroupShuffle(known_score, j + quarter);
      let a = acted * s;
{% if BACKWARD %}
      let q = quarter_sums(vec4f(q0, q1, q2, q3), lane);
      let dp = q * s * gelu_derivative(vec4f(p)).x;
      let ds = q * acted;
{% if GUARD %}
      let mine = subgroupShuffle(select(0u, 1u, known_ok), j + quarter) == 1u;
{% else %}
      let mine = true;
{% endif %}
      if (mine && lane % {{ SIZE // 4 }}u == 0u) {
        let assignment = token * params.per + base + j + quarter;
        store_entries(assignment, vec4f(a, dp, ds, p));
        dscore[assignment] = ds;
      }
{% endif %}
{% for e in range(4) %}
      {
        let weight = subgroupShuffle({{ "dp" if BACKWARD else "a" }}, {{ e * (SIZE // 4) }}u);
{% if BACKWARD and CONTEXT %}
        let share = subgroupShuffle(a, {{ e * (SIZE // 4) }}u);
{% endif %}
{% for i in range(TILES) %}
        sum{{ i }} = fma(vec4f(weight), h{{ e }}_{{ i }}, sum{{ i }});
{% if BACKWARD and CONTEXT %}
{% set change = "(share * g" ~ i ~ " + weight * x" ~ i ~ ") * gelu_derivative(stored" ~ e ~ "_" ~ i ~ ")" %}
        context_sum{{ i }} += {% if GUARD %}select(vec4f(), {{ change }}, ok{{ e }}){% else %}{{ change }}{% endif %};
{% endif %}
{% endfor %}
      }
{% endfor %}
    }
  }
{% for i in range(TILES) %}
{% if EDGE %}  if (own{{ i }}) {% endif %}{
    store_out(to{{ i }}, sum{{ i }});
{% if BACKWARD and CONTEXT %}
    store_out(to{{ i }} + params.width, context_sum{{ i }});
{% endif %}
  }
{% endfor %}
}
