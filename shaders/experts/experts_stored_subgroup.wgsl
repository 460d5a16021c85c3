// Stored experts, the kept ones of a token in one pass over their rows of two tables.
//
//   p_j = u_j · x_t     a_j = gelu(p_j) · s_j     y_t += Σ_j a_j v_j
// BACKWARD, with dy_t in the place of x_t and the tables exchanged: da_j = v_j · dy_t, dp_j = da_j · s_j · gelu'(p_j), ds_j = da_j · gelu(p_j), dx_t += Σ_j dp_j u_j.
//
// first, second [count, width]: u and v (BACKWARD: v and u) of experts params.first … first + count − 1; x [T, width]: x (BACKWARD: dy); index u32, score f32 [T · per] in
// ascending order of the experts in a token; p f32 [T · per], written (BACKWARD: read); entries f32 [T · per, 4]: a, dp, ds, p; out f32 [T, width], added to unless params.initial
// is 1. Assignments of experts that the tables don't hold are left alone: they stand before and after those that they hold. params in vec4s.
//
// A subgroup does a token: an invocation owns TILES · 4 columns of x, of the sum and of the rows, of which four are loaded at a time. Four sums over the subgroup are made at once
// (experts_quarter_sums.wgsl). EARLY: the second table's rows are asked for before the sums, which hides their latency where registers hold both (halves).
// EDGE: the width is not a multiple of the subgroup's. Bound by gathering the rows, each once.

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
{% if EDGE %}
  let own{{ i }} = lane + {{ i }}u * SIZE < params.width;
  let column{{ i }} = min(lane + {{ i }}u * SIZE, params.width - 1u);
  // Beyond the width x counts as zero, so that sums do not see what is there.
  let x{{ i }} = select(vec4f(), load_x(token * params.width + column{{ i }}), own{{ i }});
{% else %}
  let column{{ i }} = lane + {{ i }}u * SIZE;
  let x{{ i }} = load_x(token * params.width + column{{ i }});
{% endif %}
  var sum{{ i }} = vec4f();
  if (params.initial == 0u) { sum{{ i }} = load_out(token * params.width + column{{ i }}); }
{% endfor %}

  let quarter = lane / {{ SIZE // 4 }}u;
  for (var base = low - low % SIZE; base < high; base += SIZE) {
    // An invocation knows one assignment, and tells the others.
    let known = begin + min(base + lane, params.per - 1u);
    let known_score = score[known];
    let known_ok = select(0u, 1u, base + lane >= low && base + lane < high);
    let known_at = select(0u, index[known] - params.first, known_ok == 1u) * params.width;
{% if BACKWARD %}
    let known_p = p[known];
{% endif %}
    let begun = max(low, base) - base;
    for (var j = begun - begun % 4u; j < min(SIZE, high - base); j += 4u) {
{% for e in range(4) %}
      let at{{ e }} = subgroupShuffle(known_at, j + {{ e }}u);
{% for i in range(TILES) %}
      let first{{ e }}_{{ i }} = load_first(at{{ e }} + column{{ i }});
{% endfor %}
{% endfor %}
{% macro load_seconds() %}
{% for e in range(4) %}
{% for i in range(TILES) %}
      let second{{ e }}_{{ i }} = load_second(at{{ e }} + column{{ i }});
{% endfor %}
{% endfor %}
{% endmacro %}
{% if EARLY %}
{{ load_seconds() }}
{% endif %}
{% for e in range(4) %}
      let part{{ e }} = {% for i in range(TILES) %}{{ " + " if i > 0 else "" }}dot(first{{ e }}_{{ i }}, x{{ i }}){% endfor %};
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
{% if not EARLY %}
{{ load_seconds() }}
{% endif %}
{% for e in range(4) %}
{% for i in range(TILES) %}
      sum{{ i }} = fma(vec4f(weight{{ e }}), second{{ e }}_{{ i }}, sum{{ i }});
{% endfor %}
{% endfor %}
    }
  }
{% for i in range(TILES) %}
{% if EDGE %}  if (own{{ i }}) {% endif %}{ store_out(token * params.width + column{{ i }}, sum{{ i }}); }
{% endfor %}
}
