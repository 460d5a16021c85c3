// Algorithm 1 of the paper on matrix units: equations, bindings and result as in experts_fused.wgsl, without CONTEXT; z and w1 f16, read as bits.
//
// A workgroup of HIDDEN / 64 subgroups does TOKENS tokens one after the other. Each subgroup owns 64 columns of d_hidden: its part of W1 is in registers, as matrices, all
// the time. Kept experts come 16 at a time: their codes are gathered into workgroup memory, the next ones while these are multiplied; what is generated leaves the
// units through workgroup memory, and each invocation takes two columns of all 16. p (and da) are summed across a subgroup by exchanging halves, and
// across subgroups in order. Bound by the wait for each other: registers leave room for one workgroup on a multiprocessor.

const LANES = HIDDEN / 2u;
const M = 16u;
const LATENT8 = LATENT / 8u;
const HIDDEN8 = HIDDEN / 8u;
// Rows are padded, so that the rows of a matrix fall on different banks: by 16 bytes where eight rows of eight halves are loaded at a time, by 32 where four rows of
// eight numbers in f32 are stored.
const STRIDE_Z = LATENT8 + 1u;
// In pairs.
const STRIDE_H = HIDDEN / 2u + 4u;
const SUBGROUP_COUNT = HIDDEN / 64u;

{% set depth = LATENT // 16 %}
{% set loads = (4 * LATENT + HIDDEN - 1) // HIDDEN %}
var<workgroup> codes: array<vec4u, M * STRIDE_Z>;
// Pairs, of which each invocation reads its own. A unit stores to multiples of 16 bytes: all arrays here are whole multiples of them.
var<workgroup> hidden: array<vec2f, M * STRIDE_H>;
var<workgroup> parts: array<f32, {{ 2 if BACKWARD else 1 }}u * M * SUBGROUP_COUNT>;

{{ GELU }}

struct Row { ok: bool, at: u32 }

fn row_of(assignment: u32) -> Row {
  let row = index[assignment] - params.first;
  let ok = index[assignment] >= params.first && row < params.count;
  return Row(ok, select(0u, row, ok) * LATENT8);
}

// The own two of four columns that an invocation shares with its neighbour.
fn own(v: vec4f, lane: u32) -> vec2f { return select(v.xy, v.zw, lane % 2u == 1u); }

{# Starts to gather the codes of 16 kept experts from `base` on, of the token whose assignments start at `from`. #}
{% macro fetch(from, base) %}
{% for i in range(loads) %}
    {
      let item = lane + {{ i }}u * LANES;
      let row = row_of({{ from }} + min({{ base }} + item / LATENT8, params.per - 1u));
      next{{ i }} = {{ "select(vec4u(), z[row.at + item % LATENT8], row.ok)" if DROPS else "z[row.at + item % LATENT8]" }};
    }
{% endfor %}
{% endmacro %}
{% macro put() %}
{% for i in range(loads) %}
    {
      let item = lane + {{ i }}u * LANES;
      if (item < M * LATENT8) { codes[item / LATENT8 * STRIDE_Z + item % LATENT8] = next{{ i }}; }
    }
{% endfor %}
{% endmacro %}
{# Adds each of 16 numbers up over the subgroup: lanes 2 j and 2 j + 1 have the j-th sum afterwards. #}
{% macro sum_up(name, place) %}
{% for width in [8, 4, 2, 1] %}
{% for i in range(width) %}
{% set from = name if width == 8 else name ~ (2 * width) ~ "_" %}
    let {{ name }}{{ width }}_{{ i }} = select({{ from }}{{ i }}, {{ from }}{{ i + width }}, (lane & {{ 2 * width }}u) != 0u) + subgroupShuffleXor(select({{ from }}{{ i + width }}, {{ from }}{{ i }}, (lane & {{ 2 * width }}u) != 0u), {{ 2 * width }}u);
{% endfor %}
{% endfor %}
    let {{ name }}_sum = {{ name }}1_0 + subgroupShuffleXor({{ name }}1_0, 1u);
    if (lane % 2u == 0u) { parts[({{ place }}u * M + lane % 32u / 2u) * SUBGROUP_COUNT + subgroup] = {{ name }}_sum; }
{% endmacro %}
{# The sum over the subgroups of what this invocation's expert has. #}
{% macro whole(place) %}{% for i in range(HIDDEN // 64) %}{{ " + " if i else "" }}parts[({{ place }}u * M + expert) * SUBGROUP_COUNT + {{ i }}u]{% endfor %}{% endmacro %}
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let number = workgroup_number(id, count);
  let subgroup = lane / 32u;
  // Which of the 16 experts this invocation weighs, each in two invocations of every subgroup.
  let expert = lane % 16u;
{% for k in range(depth) %}{% for c in range(4) %}
  let w{{ k }}_{{ c }} = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, row_major>(&w1, {{ k }}u * M * HIDDEN8 + subgroup * 8u + {{ 2 * c }}u, HIDDEN8);
{% endfor %}{% endfor %}
{% for i in range(loads) %}
  var next{{ i }}: vec4u;
{% endfor %}
{% if not DROPS %}
  // Every token has as many rounds, so the last of them loads the codes of the next token's first.
{{ fetch("min(number * TOKENS, params.tokens - 1u) * params.per", "0u") }}
{{ put() }}
  workgroupBarrier();
{% endif %}
  for (var token = number * TOKENS; token < min(params.tokens, (number + 1u) * TOKENS); token++) {
    let begin = token * params.per;
    let x = own(load_x(token * params.ldx + lane / 2u), lane);
{% if BACKWARD %}
    let g = own(load_g(token * params.width + lane / 2u), lane);
{% endif %}
    var sum = vec2f();
{% if DROPS %}
{{ fetch("begin", "0u") }}
{{ put() }}
    workgroupBarrier();
{% endif %}
    for (var base = 0u; base < params.per{% if DROPS %} && index[begin + base] != params.none{% endif %}; base += M) {
      let assignment = begin + min(base + expert, params.per - 1u);
      let ok = row_of(assignment).ok && base + expert < params.per;
      let weight = select(0.0, score[assignment], ok);
{% if DROPS %}
{{ fetch("begin", "base + M") }}
{% else %}
      let more = base + M < params.per;
      let next_begin = select(min(token + 1u, params.tokens - 1u) * params.per, begin, more);
      let next_base = select(0u, base + M, more);
{{ fetch("next_begin", "next_base") }}
{% endif %}
{% for c in range(4) %}
      var h{{ c }} = subgroup_matrix_result<f32, 16, 16>();
{% endfor %}
{% for k in range(depth) %}
      let z{{ k }} = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&codes, {{ 2 * k }}u, STRIDE_Z);
{% for c in range(4) %}
      h{{ c }} = subgroupMatrixMultiplyAccumulate(z{{ k }}, w{{ k }}_{{ c }}, h{{ c }});
{% endfor %}
{% endfor %}
{% for c in range(4) %}
      subgroupMatrixStore<row_major>(&hidden, subgroup * 32u + {{ 8 * c }}u, h{{ c }}, STRIDE_H);
{% endfor %}
      workgroupBarrier();
{% for j in range(8) %}
      let both{{ j }} = gelu(vec4f(hidden[{{ 2 * j }}u * STRIDE_H + lane], hidden[{{ 2 * j + 1 }}u * STRIDE_H + lane]));
      let p{{ 2 * j }} = dot(both{{ j }}.xy, x);
      let p{{ 2 * j + 1 }} = dot(both{{ j }}.zw, x);
{% if BACKWARD %}
      let q{{ 2 * j }} = dot(both{{ j }}.xy, g);
      let q{{ 2 * j + 1 }} = dot(both{{ j }}.zw, g);
{% endif %}
{% endfor %}
{{ sum_up("p", 0) }}
{% if BACKWARD %}
{{ sum_up("q", 1) }}
{% endif %}
      // All subgroups have read the codes since the last barrier, so the next ones need no barrier of their own.
{{ put() }}
      workgroupBarrier();
      let p = {{ whole(0) }};
      let acted = gelu(vec4f(p)).x;
      let a = acted * weight;
{% if BACKWARD %}
      let q = {{ whole(1) }};
      let part = q * weight * gelu_derivative(vec4f(p)).x;
      if (lane < M && ok) { store_entries(assignment, vec4f(a, part, q * acted, p)); }
{% else %}
      let part = a;
{% endif %}
{% for j in range(8) %}
      sum += subgroupShuffle(part, {{ 2 * j }}u) * both{{ j }}.xy + subgroupShuffle(part, {{ 2 * j + 1 }}u) * both{{ j }}.zw;
{% endfor %}
    }
    let other = subgroupShuffleXor(sum, 1u);
    if (lane % 2u == 0u) {
      let to = token * params.width + lane / 2u;
      var v = vec4f(sum, other);
      if (params.initial == 0u) { v += load_out(to); }
      store_out(to, v);
    }
  }
}
