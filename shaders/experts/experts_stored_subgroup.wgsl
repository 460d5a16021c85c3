// Stored experts, the kept ones of a token in one pass over their rows of two tables.
//
//   p_j = u_j · x_t     a_j = gelu(p_j) · s_j     y_t += Σ_j a_j v_j
// BACKWARD, with dy_t in the place of x_t and the tables exchanged: da_j = v_j · dy_t, dp_j = da_j · s_j · gelu'(p_j), ds_j = da_j · gelu(p_j), dx_t += Σ_j dp_j u_j.
//
// first, second [count, width]: u and v (BACKWARD: v and u) of experts params.first … first + count − 1; x [T, width]: x (BACKWARD: dy); index u32, score f32 [T · per] in
// ascending order of the experts in a token; p f32 [T · per], written (BACKWARD: read); entries f32 [T · per, 4]: a, dp, ds, p; out f32 [T, width], added to unless params.initial
// is 1. Assignments of experts that the tables don't hold are left alone: they stand before and after those that they hold. params in vec4s.
//
// A subgroup does a token: an invocation owns TILES · 4 · PER columns of x, of the sum and of the rows, of which four are loaded at a time. Four sums over the subgroup are made at once
// (experts_quarter_sums.wgsl). PER 2: the tables are bound as the bits of eight halves, which stay bits in registers until they are used; the second table's rows are then asked for before
// the sums, which hides their latency. EDGE: the width is not a multiple of the subgroup's. Bound by gathering the rows, each once.

{{ GELU }}

{# The part of a row that an invocation loads, and the four numbers that it takes from that. #}
{% macro load(table, e, i) %}{% if PER == 2 %}{{ table }}[at{{ e }} + column{{ i }}]{% else %}load_{{ table }}(at{{ e }} + column{{ i }}){% endif %}{% endmacro %}
{% macro numbers(table, e, i, q) %}{% set loaded = table ~ e ~ "_" ~ i %}{% if PER == 2 %}vec4f(unpack2x16float({{ loaded }}[{{ 2 * q }}]), unpack2x16float({{ loaded }}[{{ 2 * q + 1 }}])){% else %}{{ loaded }}{% endif %}{% endmacro %}

@compute @workgroup_size({{ ROWS * SIZE }})
fn main(
  @builtin(workgroup_id) id: vec3u,
  @builtin(num_workgroups) count: vec3u,
  @builtin(local_invocation_index) invocation: u32,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let token = workgroup_number(id, count) * ROWS + invocation / SIZE;
  if (token >= params.tokens) { return; }
  let begin = token * params.per;
  // The experts that the tables hold are those from place low to place high of the token's.
  var low = 0u;
  var high = 0u;
  for (var base = 0u; base < params.per; base += SIZE) {
    let here = base + lane < params.per;
    let expert = index[begin + min(base + lane, params.per - 1u)];
    low += select(0u, 1u, here && expert < params.first);
    high += select(0u, 1u, here && expert < params.first + params.count);
  }
  low = subgroupAdd(low);
  high = subgroupAdd(high);
  // Another part's dispatch has the token's experts.
  if (low == high && params.initial == 0u) { return; }

{% for i in range(TILES) %}
  let own{{ i }} = lane + {{ i }}u * SIZE < params.width / PER;
  let column{{ i }} = {{ "min(lane + " ~ i ~ "u * SIZE, params.width / PER - 1u)" if EDGE else "lane + " ~ i ~ "u * SIZE" }};
{% for q in range(PER) %}
  let place{{ i }}_{{ q }} = token * params.width + PER * column{{ i }} + {{ q }}u;
{% if EDGE %}
  // Beyond the width x counts as zero, so that sums do not see what is there.
  let x{{ i }}_{{ q }} = select(vec4f(), load_x(place{{ i }}_{{ q }}), own{{ i }});
{% else %}
  let x{{ i }}_{{ q }} = load_x(place{{ i }}_{{ q }});
{% endif %}
  var sum{{ i }}_{{ q }} = vec4f();
  if (params.initial == 0u) { sum{{ i }}_{{ q }} = load_out(place{{ i }}_{{ q }}); }
{% endfor %}
{% endfor %}

  let quarter = lane / {{ SIZE // 4 }}u;
  for (var base = low - low % SIZE; base < high; base += SIZE) {
    // An invocation knows one assignment, and tells the others.
    let known = begin + min(base + lane, params.per - 1u);
    let known_score = score[known];
    let known_ok = select(0u, 1u, base + lane >= low && base + lane < high);
    let known_at = select(0u, index[known] - params.first, known_ok == 1u) * (params.width / PER);
{% if BACKWARD %}
    let known_p = p[known];
{% endif %}
    let begun = max(low, base) - base;
    for (var j = begun - begun % 4u; j < min(SIZE, high - base); j += 4u) {
{% for e in range(4) %}
      let at{{ e }} = subgroupShuffle(known_at, j + {{ e }}u);
{% for i in range(TILES) %}
      let first{{ e }}_{{ i }} = {{ load("first", e, i) }};
{% endfor %}
{% endfor %}
{% macro load_seconds() %}
{% for e in range(4) %}
{% for i in range(TILES) %}
      let second{{ e }}_{{ i }} = {{ load("second", e, i) }};
{% endfor %}
{% endfor %}
{% endmacro %}
{% if PER == 2 %}
{{ load_seconds() }}
{% endif %}
{% for e in range(4) %}
      let part{{ e }} = {% for i in range(TILES) %}{% for q in range(PER) %}{{ " + " if i + q > 0 else "" }}dot({{ numbers("first", e, i, q) }}, x{{ i }}_{{ q }}){% endfor %}{% endfor %};
{% endfor %}
      let total = quarter_sums(vec4f(part0, part1, part2, part3), lane);
      let s = subgroupShuffle(known_score, j + quarter);
      let ok = subgroupShuffle(known_ok, j + quarter) == 1u;
{% if BACKWARD %}
      let before = subgroupShuffle(known_p, j + quarter);
      let acted = gelu(vec4f(before)).x;
      let weight = select(0.0, total * s * gelu_derivative(vec4f(before)).x, ok);
{% else %}
      let weight = select(0.0, gelu(vec4f(total)).x * s, ok);
{% endif %}
{% for e in range(4) %}
      let weight{{ e }} = subgroupShuffle(weight, {{ e * (SIZE // 4) }}u);
{% endfor %}
      if (ok && lane % {{ SIZE // 4 }}u == 0u) {
        let assignment = begin + base + j + quarter;
{% if BACKWARD %}
        store_entries(assignment, vec4f(acted * s, weight, total * acted, before));
{% else %}
        p[assignment] = total;
{% endif %}
      }
{% if PER == 1 %}
{{ load_seconds() }}
{% endif %}
{% for e in range(4) %}
{% for i in range(TILES) %}
{% for q in range(PER) %}
      sum{{ i }}_{{ q }} = fma(vec4f(weight{{ e }}), {{ numbers("second", e, i, q) }}, sum{{ i }}_{{ q }});
{% endfor %}
{% endfor %}
{% endfor %}
    }
  }
{% for i in range(TILES) %}
{% for q in range(PER) %}
  {{ "if (own" ~ i ~ ") " if EDGE else "" }}{ store_out(place{{ i }}_{{ q }}, sum{{ i }}_{{ q }}); }
{% endfor %}
{% endfor %}
}
