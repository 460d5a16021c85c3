// Algorithm 1 of the paper: the kept experts of a token are generated, activated and summed without being stored.
//
//   h_j = gelu(z_j W1 (CONTEXT: + c_t))     p = h_j · xp_t     a = gelu(p) · s     acc_t = Σ_j a h_j
// BACKWARD (h is generated again): da = h_j · dacc_t, dp = da · s · gelu'(p), ds = da · gelu(p), dxp_t = Σ_j dp h_j,
//   CONTEXT: dc_t = Σ_j (a · dacc_t + dp · xp_t) ⊙ gelu'(z_j W1 + c_t).
//
// z [count, d_latent]: experts first … first + count − 1, others are left to other dispatches; w1 [≥ d_latent, d_hidden]; x [T, ·] (stride ldx): xp, then c;
// index u32, score f32 [T · per]; g [T, d_hidden]; entries f32 [T · per, 4]: a, dp, ds, p;
// DROPS: a token may keep fewer than per experts; they come first, and in the place of the others is params.none, where the loop over them ends.
// out [T, ·] (stride ldx when CONTEXT and BACKWARD, else width): acc, or dxp and then dc; added to unless params.initial is 1. params in vec4s.
//
// Software: an invocation does kept experts start … end − 1 of a token, h in an array. Otherwise a workgroup of THREADS does a token, EXPERTS at a time: an invocation owns TILES · 4 columns of
// d_hidden, so each number of W1 that it loads serves EXPERTS experts; p (and da) are summed over the workgroup. PARTS workgroups share a token where there are few: each does
// `share` of its experts and writes a sum of its own, out [PARTS, T, ·]. Bound by arithmetic: 2 · d_latent · d_hidden
// operations an expert.

{{ GELU }}

struct Row { ok: bool, at: u32 }

fn row_of(assignment: u32) -> Row {
  let row = index[assignment] - params.first;
  let ok = index[assignment] >= params.first && row < params.count;
  return Row(ok, select(0u, row, ok) * params.latent);
}

{% set ldo = "params.ldx" if BACKWARD and CONTEXT else "params.width" %}
{% if SOFTWARE %}
@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let token = workgroup_number(id, count) * 8u + lane;
  if (token >= params.tokens) { return; }
  var before: array<vec4f, HIDDEN4>;
  var sum: array<vec4f, HIDDEN4>;
{% if BACKWARD and CONTEXT %}
  var context_sum: array<vec4f, HIDDEN4>;
{% endif %}
  for (var j = params.start; j < params.end; j++) {
    let assignment = token * params.per + j;
{% if DROPS %}
    if (index[assignment] == params.none) { break; }
{% endif %}
    let row = row_of(assignment);
    if (!row.ok) { continue; }
    var p4 = vec4f();
    var q4 = vec4f();
    for (var c = 0u; c < HIDDEN4; c++) {
      var h = vec4f();
{% if CONTEXT %}
      h = load_x(token * params.ldx + HIDDEN4 + c);
{% endif %}
      for (var l = 0u; l < params.latent; l++) {
        let code = load_z(row.at + l);
        let w = 4u * l * HIDDEN4 + c;
        h = fma(vec4f(code.x), load_w1(w), fma(vec4f(code.y), load_w1(w + HIDDEN4), fma(vec4f(code.z), load_w1(w + 2u * HIDDEN4), fma(vec4f(code.w), load_w1(w + 3u * HIDDEN4), h))));
      }
      before[c] = h;
      h = gelu(h);
      p4 = fma(h, load_x(token * params.ldx + c), p4);
{% if BACKWARD %}
      q4 = fma(h, load_g(token * HIDDEN4 + c), q4);
{% endif %}
    }
    let p = dot(p4, vec4f(1.0));
    let acted = gelu(vec4f(p)).x;
    let a = acted * score[assignment];
{% if BACKWARD %}
    let q = dot(q4, vec4f(1.0));
    let dp = q * score[assignment] * gelu_derivative(vec4f(p)).x;
    store_entries(assignment, vec4f(a, dp, q * acted, p));
{% endif %}
    for (var c = 0u; c < HIDDEN4; c++) {
      sum[c] = fma(vec4f({{ "dp" if BACKWARD else "a" }}), gelu(before[c]), sum[c]);
{% if BACKWARD and CONTEXT %}
      let dh = a * load_g(token * HIDDEN4 + c) + dp * load_x(token * params.ldx + c);
      context_sum[c] = fma(dh, gelu_derivative(before[c]), context_sum[c]);
{% endif %}
    }
  }
  for (var c = 0u; c < HIDDEN4; c++) {
    let to = token * {{ ldo }} + c;
    if (params.initial == 0u) { sum[c] += load_out(to); }
    store_out(to, sum[c]);
{% if BACKWARD and CONTEXT %}
    if (params.initial == 0u) { context_sum[c] += load_out(to + HIDDEN4); }
    store_out(to + HIDDEN4, context_sum[c]);
{% endif %}
  }
}
{% else %}
{# Beyond the kept experts a row of another one was read, whatever numbers it holds. #}
{% macro own(e, i) %}{{ "select(vec4f(), h" ~ e ~ "_" ~ i ~ ", ok" ~ e ~ ")" if DROPS else "h" ~ e ~ "_" ~ i }}{% endmacro %}
{% set quads = EXPERTS // 4 %}
{% set sums = quads * 2 if BACKWARD else quads %}
// The p of four experts a vec4, then (BACKWARD) their da.
var<workgroup> parts: array<vec4f, {{ sums }}u * THREADS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let work = workgroup_number(id, count);
  let token = work / PARTS;
  let part = work % PARTS;
  if (token >= params.tokens) { return; }
{% for i in range(TILES) %}
  let own{{ i }} = lane + {{ i }}u * THREADS < params.width;
  let column{{ i }} = min(lane + {{ i }}u * THREADS, params.width - 1u);
  // Beyond the width x and g count as zero, so that p and da do not see what is computed there.
  let x{{ i }} = select(vec4f(), load_x(token * params.ldx + column{{ i }}), own{{ i }});
  let to{{ i }} = (part * params.tokens + token) * {{ ldo }} + column{{ i }};
  var sum{{ i }} = vec4f();
  if (params.initial == 0u) { sum{{ i }} = load_out(to{{ i }}); }
{% if BACKWARD %}
  let g{{ i }} = select(vec4f(), load_g(token * params.width + column{{ i }}), own{{ i }});
{% endif %}
{% if CONTEXT %}
  let c{{ i }} = load_x(token * params.ldx + params.width + column{{ i }});
{% if BACKWARD %}
  var context_sum{{ i }} = vec4f();
  if (params.initial == 0u) { context_sum{{ i }} = load_out(to{{ i }} + params.width); }
{% endif %}
{% endif %}
{% endfor %}
  let begin = token * params.per;
  let last = params.per - 1u;

  let end = min(params.per, (part + 1u) * params.share);
  for (var base = part * params.share; base < end{% if DROPS %} && index[begin + base] != params.none{% endif %}; base += EXPERTS) {
{% for e in range(EXPERTS) %}
    let assignment{{ e }} = begin + min(base + {{ e }}u, last);
    let row{{ e }} = row_of(assignment{{ e }});
    let ok{{ e }} = row{{ e }}.ok && base + {{ e }}u <= last;
{% for i in range(TILES) %}
    var h{{ e }}_{{ i }} = {{ "c" ~ i if CONTEXT else "vec4f()" }};
{% endfor %}
{% endfor %}
    for (var l = 0u; l < params.latent; l++) {
{% for e in range(EXPERTS) %}
      let z{{ e }} = load_z(row{{ e }}.at + l);
{% endfor %}
{% for i in range(TILES) %}
      {
        let at = 4u * l * params.width + column{{ i }};
        let w0 = load_w1(at);
        let w1_ = load_w1(at + params.width);
        let w2 = load_w1(at + 2u * params.width);
        let w3 = load_w1(at + 3u * params.width);
{% for e in range(EXPERTS) %}
        h{{ e }}_{{ i }} = fma(vec4f(z{{ e }}.x), w0, fma(vec4f(z{{ e }}.y), w1_, fma(vec4f(z{{ e }}.z), w2, fma(vec4f(z{{ e }}.w), w3, h{{ e }}_{{ i }}))));
{% endfor %}
      }
{% endfor %}
    }
{% for e in range(EXPERTS) %}
    var p{{ e }} = 0.0;
{% if BACKWARD %}
    var q{{ e }} = 0.0;
{% endif %}
{% for i in range(TILES) %}
{% if BACKWARD and CONTEXT %}
    let slope{{ e }}_{{ i }} = gelu_derivative({{ own(e, i) }});
{% endif %}
    h{{ e }}_{{ i }} = gelu({{ own(e, i) }});
    p{{ e }} += dot(h{{ e }}_{{ i }}, x{{ i }});
{% if BACKWARD %}
    q{{ e }} += dot(h{{ e }}_{{ i }}, g{{ i }});
{% endif %}
{% endfor %}
{% endfor %}
{% for n in range(quads) %}
    parts[{{ n }}u * THREADS + lane] = vec4f(p{{ 4 * n }}, p{{ 4 * n + 1 }}, p{{ 4 * n + 2 }}, p{{ 4 * n + 3 }});
{% if BACKWARD %}
    parts[{{ quads + n }}u * THREADS + lane] = vec4f(q{{ 4 * n }}, q{{ 4 * n + 1 }}, q{{ 4 * n + 2 }}, q{{ 4 * n + 3 }});
{% endif %}
{% endfor %}
    workgroupBarrier();
    for (var step = THREADS / 2u; step > 0u; step /= 2u) {
      if (lane < step) {
{% for n in range(sums) %}
        parts[{{ n }}u * THREADS + lane] += parts[{{ n }}u * THREADS + lane + step];
{% endfor %}
      }
      workgroupBarrier();
    }
{% for n in range(quads) %}
    let scores{{ n }} = vec4f(
{% for k in range(4) %}
      select(0.0, score[assignment{{ 4 * n + k }}], ok{{ 4 * n + k }}){{ "," if k < 3 else "" }}
{% endfor %}
    );
    let p_{{ n }} = parts[{{ n }}u * THREADS];
    let acted{{ n }} = gelu(p_{{ n }});
    let a_{{ n }} = acted{{ n }} * scores{{ n }};
{% if BACKWARD %}
    let q_{{ n }} = parts[{{ quads + n }}u * THREADS];
    let dp_{{ n }} = q_{{ n }} * scores{{ n }} * gelu_derivative(p_{{ n }});
{% for k in range(4) %}
    if (lane == {{ 4 * n + k }}u && ok{{ 4 * n + k }}) {
      store_entries(assignment{{ 4 * n + k }}, vec4f(a_{{ n }}[{{ k }}], dp_{{ n }}[{{ k }}], q_{{ n }}[{{ k }}] * acted{{ n }}[{{ k }}], p_{{ n }}[{{ k }}]));
    }
{% endfor %}
{% endif %}
{% endfor %}
{% for e in range(EXPERTS) %}
{% for i in range(TILES) %}
    sum{{ i }} = fma(vec4f({{ "dp_" if BACKWARD else "a_" }}{{ e // 4 }}[{{ e % 4 }}]), h{{ e }}_{{ i }}, sum{{ i }});
{% if BACKWARD and CONTEXT %}
    context_sum{{ i }} = fma(a_{{ e // 4 }}[{{ e % 4 }}] * g{{ i }} + dp_{{ e // 4 }}[{{ e % 4 }}] * x{{ i }}, slope{{ e }}_{{ i }}, context_sum{{ i }});
{% endif %}
{% endfor %}
{% endfor %}
    // The sums were read by all before the next experts overwrite them.
    workgroupBarrier();
  }
{% for i in range(TILES) %}
  if (own{{ i }}) {
    store_out(to{{ i }}, sum{{ i }});
{% if BACKWARD and CONTEXT %}
    store_out(to{{ i }} + params.width, context_sum{{ i }});
{% endif %}
  }
{% endfor %}
}
{% endif %}
