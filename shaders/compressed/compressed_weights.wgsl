// Weights of compressed experts (model/ops/compressed/experts.ts), CHUNK neighbouring inputs of an output at a time. Put before the kernels that multiply with them.
//
// FORM "pattern": of every GROUP inputs KEPT are stored. Word w of an output's stored weights lies at `values` [words, outputs], and so do the places, PLACE_BITS
// each, in `places`.    "mask": 32 inputs are a strip. `places` [strips, fours of outputs] has an output's bit for each input, and `starts` the number of the first
// stored weight of four outputs. Weights are stored strip after strip, in a strip output after output.
// BITS of a stored weight: 32 f32, 16 halves, fewer the codes of LEVELS, with scale and zero point of each output in `levels`.
// params: n outputs; stride from one expert's `places` to the next one's, values_stride from its values ("pattern"), starts_stride from its starts ("mask").
//
// Invocations that are neighbours should ask for neighbouring outputs: their words lie side by side.

struct Weights {
{% for q in range(CHUNK // 4) %}
  w{{ q }}: vec4f,
{% endfor %}
}

// Scale and zero point of an output's levels.
fn level_grid(row: u32) -> vec2f {
{% if LEVELS %}
  return vec2f(levels[2u * row], levels[2u * row + 1u]);
{% else %}
  return vec2f();
{% endif %}
}
{% if BITS < 32 or FORM == "pattern" %}

// 32 bits that begin within a word.
fn funnel(low: u32, high: u32, shift: u32) -> u32 {
  return (low >> shift) | select(0u, high << ((32u - shift) & 31u), shift > 0u);
}
{% endif %}

{# The number of a code. #}
{% macro number(code) %}{% if LEVELS %}grid.x * (f32({{ code }} & {{ MASK }}u) - grid.y){% elif BITS == 16 %}unpack2x16float({{ code }} & 0xffffu).x{% else %}bitcast<f32>({{ code }}){% endif %}{% endmacro %}
{% if FORM == "pattern" %}
{# Stored weights that a chunk reads: of whole groups, or of the group that it is a part of. #}
{% set stored = KEPT * CHUNK // GROUP if GROUP <= CHUNK else KEPT %}
{# As many words as hold `stored` numbers of so many bits from number `e0` on, each with whole numbers from its lowest bit on. #}
{% macro windows(name, source, bits, begin) %}
{% set per = 32 // bits %}
{% set whole = stored * bits %}
{% for i in range((stored + per - 1) // per) %}
{% if bits == 32 %}
  let {{ name }}{{ i }} = {{ source }}[{{ begin }} + (e0 + {{ i }}u) * params.n];
{% elif 32 % bits == 0 and (whole % 32 == 0 or 32 % whole == 0) %}
  let {{ name }}{{ i }} = {{ source }}[{{ begin }} + (e0 + {{ i * per }}u) * {{ bits }}u / 32u * params.n] >> ((e0 + {{ i * per }}u) * {{ bits }}u & 31u);
{% else %}
  let {{ name }}_at{{ i }} = {{ begin }} + (e0 + {{ i * per }}u) * {{ bits }}u / 32u * params.n;
  let {{ name }}{{ i }} = funnel({{ source }}[{{ name }}_at{{ i }}], {{ source }}[{{ name }}_at{{ i }} + params.n], (e0 + {{ i * per }}u) * {{ bits }}u & 31u);
{% endif %}
{% endfor %}
{% endmacro %}
fn weights(expert: u32, places_begin: u32, row: u32, chunk: u32, grid: vec2f) -> Weights {
  let e0 = {{ "chunk * " ~ stored ~ "u" if GROUP <= CHUNK else "chunk / " ~ (GROUP // CHUNK) ~ "u * KEPT" }};
  let values_begin = expert * params.values_stride + row;
{{ windows("place", "places", PLACE_BITS, "(places_begin + row)") }}
{{ windows("value", "values", BITS, "values_begin") }}
{% if GROUP > CHUNK %}
  let aside = chunk * {{ CHUNK }}u % GROUP;
{% endif %}
  var result = Weights();
{% set per_place = 32 // PLACE_BITS %}
{% set per_value = 32 // BITS %}
{% for e in range(stored) %}
{% set base = e // KEPT * GROUP %}
  {
    let place = ((place{{ e // per_place }} >> {{ e % per_place * PLACE_BITS }}u) & {{ GROUP - 1 }}u){{ " - aside" if GROUP > CHUNK }};
    let number = {{ number("(value" ~ (e // per_value) ~ " >> " ~ (e % per_value * BITS) ~ "u)" if BITS < 32 else "value" ~ e) }};
{% for q in range(CHUNK // 4) %}
{% if base < 4 * q + 4 and base + GROUP > 4 * q %}
    result.w{{ q }} = select(result.w{{ q }}, vec4f(number), vec4u(place + {{ base }}u) == vec4u({{ 4 * q }}u, {{ 4 * q + 1 }}u, {{ 4 * q + 2 }}u, {{ 4 * q + 3 }}u));
{% endif %}
{% endfor %}
  }
{% endfor %}
  return result;
}
{% else %}
{% set per = 32 // BITS %}
{% set count = (CHUNK + per - 1) // per %}
fn weights(expert: u32, places_begin: u32, row: u32, chunk: u32, grid: vec2f) -> Weights {
  let strip = chunk / {{ 32 // CHUNK }}u;
  let four = strip * ((params.n + 3u) / 4u) + row / 4u;
  let masks = places[places_begin + four];
  let own = row % 4u;
  let counts = select(vec4u(), countOneBits(masks), vec4u(0u, 1u, 2u, 3u) < vec4u(own));
  let mask = select(select(masks.x, masks.y, own == 1u), select(masks.z, masks.w, own == 3u), own >= 2u);
  let shift = chunk % {{ 32 // CHUNK }}u * {{ CHUNK }}u;
  let first = starts[expert * params.starts_stride + four] + counts.x + counts.y + counts.z + countOneBits(mask & ((1u << shift) - 1u));
  let bits = mask >> shift;
{% if LEVELS %}
{% for i in range(count) %}
  let e{{ i }} = first + {{ i * per }}u;
  let at{{ i }} = e{{ i }} / 32u * BITS + e{{ i }} % 32u * BITS / 32u;
  let window{{ i }} = funnel(values[at{{ i }}], values[at{{ i }} + 1u], e{{ i }} % 32u * BITS % 32u);
{% endfor %}
{% endif %}
  var result = Weights();
{% for j in range(CHUNK) %}
  {
    let before = {{ "0u" if j == 0 else "countOneBits(bits & " ~ MASKS[j] ~ "u)" }};
{% if LEVELS %}
{% if count == 1 %}
    let number = {{ number("(window0 >> (before * BITS))") }};
{% else %}
    let second = before >= {{ per }}u;
    let number = {{ number("(select(window0, window1, second) >> ((before - select(0u, " ~ per ~ "u, second)) * BITS))") }};
{% endif %}
{% elif BITS == 16 %}
    let e = first + before;
    let number = {{ number("(values[e / 2u] >> (e % 2u * 16u))") }};
{% else %}
    let number = {{ number("values[first + before]") }};
{% endif %}
    result.w{{ j // 4 }}.{{ "xyzw"[j % 4] }} = select(0.0, number, (bits & {{ MASKS[j] + 1 }}u) != 0u);
  }
{% endfor %}
  return result;
}
{% endif %}
