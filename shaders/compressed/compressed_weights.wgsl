// Weights of compressed experts (model/ops/compressed/experts.ts), CHUNK neighbouring inputs of an output at a time. Put before the kernels that multiply with them.
//
// FORM "pattern": of every GROUP inputs KEPT are stored. Word w of an output's stored weights lies at `values` [words, outputs], and so do the places, PLACE_BITS
// each, in `places`.    "mask": 32 inputs are a strip. `places` [strips, fours of outputs] has an output's bit for each input, and `starts` the number of the first
// stored weight of four outputs. Weights are stored strip after strip, in a strip output after output.
// BITS of a stored weight: 32 f32, 16 halves, fewer the codes of LEVELS, with scale and zero point of each output in `levels`.
// params: n outputs; stride from one expert's `places` to the next one's, values_stride from its values ("pattern"), starts_stride from its starts ("mask").
//
// `take` asks for what a chunk reads, `unpack` makes weights of it: a kernel that multiplies in between does not wait for memory. Invocations that are neighbours should
// ask for neighbouring outputs: their words lie side by side.

{% set per = 32 // BITS %}
{# Stored weights that a chunk of a pattern reads: of whole groups, or of the group that it is a part of. #}
{% set stored = KEPT * CHUNK // GROUP if FORM == "pattern" and GROUP <= CHUNK else KEPT %}
{# Words that hold so many numbers of so many bits, each with whole numbers from its lowest bit on. #}
{% set value_windows = (stored + per - 1) // per if FORM == "pattern" else (CHUNK + per - 1) // per if LEVELS else CHUNK %}
{% set place_windows = (stored + 32 // PLACE_BITS - 1) // (32 // PLACE_BITS) if FORM == "pattern" else 0 %}
{# Whether they may begin within a word: where not, a chunk's numbers fill words or parts of one. #}
{% set values_cross = 32 % BITS != 0 or (stored * BITS % 32 != 0 and 32 % (stored * BITS) != 0) if FORM == "pattern" else LEVELS %}
{% set places_cross = FORM == "pattern" and (32 % PLACE_BITS != 0 or (stored * PLACE_BITS % 32 != 0 and 32 % (stored * PLACE_BITS) != 0)) %}

struct Weights {
{% for q in range(CHUNK // 4) %}
  w{{ q }}: vec4f,
{% endfor %}
}

// Words that a chunk is unpacked from; `first` is the number of the first stored weight, of an output or of all.
struct Stored {
  first: u32,
{% if FORM == "mask" %}
  bits: u32,
{% elif GROUP > CHUNK %}
  aside: u32,
{% endif %}
{% for i in range(place_windows) %}
  place{{ i }}: u32,
{% if places_cross %}
  place{{ i }}_high: u32,
{% endif %}
{% endfor %}
{% for i in range(value_windows) %}
  value{{ i }}: u32,
{% if values_cross %}
  value{{ i }}_high: u32,
{% endif %}
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
{% if values_cross or places_cross %}

// 32 bits that begin within a word.
fn funnel(low: u32, high: u32, shift: u32) -> u32 {
  return (low >> shift) | select(0u, high << ((32u - shift) % 32u), shift > 0u);
}
{% endif %}

{# The number of a code. #}
{% macro number(code) %}{% if LEVELS %}grid.x * (f32({{ code }} & {{ MASK }}u) - grid.y){% elif BITS == 16 %}unpack2x16float({{ code }} & 0xffffu).x{% else %}bitcast<f32>({{ code }}){% endif %}{% endmacro %}
{% if FORM == "pattern" %}
{% macro take_windows(name, source, bits, begin, count, cross) %}
{% for i in range(count) %}
  let {{ name }}_at{{ i }} = {{ begin }} + (result.first + {{ i * (32 // bits) }}u){{ " * " ~ bits ~ "u / 32u" if bits < 32 }} * params.n;
  result.{{ name }}{{ i }} = {{ source }}[{{ name }}_at{{ i }}];
{% if cross %}
  result.{{ name }}{{ i }}_high = {{ source }}[{{ name }}_at{{ i }} + params.n];
{% endif %}
{% endfor %}
{% endmacro %}
{% macro open_windows(name, bits, count, cross) %}
{% for i in range(count) %}
{% set shift = "(taken.first + " ~ (i * (32 // bits)) ~ "u) * " ~ bits ~ "u % 32u" %}
{% if cross %}
  let {{ name }}{{ i }} = funnel(taken.{{ name }}{{ i }}, taken.{{ name }}{{ i }}_high, {{ shift }});
{% elif stored * bits < 32 %}
  let {{ name }}{{ i }} = taken.{{ name }}{{ i }} >> ({{ shift }});
{% else %}
  let {{ name }}{{ i }} = taken.{{ name }}{{ i }};
{% endif %}
{% endfor %}
{% endmacro %}
fn take(expert: u32, places_begin: u32, row: u32, chunk: u32) -> Stored {
  var result: Stored;
{% if GROUP > CHUNK %}
  result.first = chunk / {{ GROUP // CHUNK }}u * KEPT;
  result.aside = chunk * CHUNK % GROUP;
{% else %}
  result.first = chunk * {{ stored }}u;
{% endif %}
{{ take_windows("place", "places", PLACE_BITS, "places_begin + row", place_windows, places_cross) }}
{{ take_windows("value", "values", BITS, "expert * params.values_stride + row", value_windows, values_cross) }}
  return result;
}

fn unpack(taken: Stored, grid: vec2f) -> Weights {
{{ open_windows("place", PLACE_BITS, place_windows, places_cross) }}
{{ open_windows("value", BITS, value_windows, values_cross) }}
  var result = Weights();
{% set per_place = 32 // PLACE_BITS %}
{% for e in range(stored) %}
{% set base = e // KEPT * GROUP %}
  {
    let place = ((place{{ e // per_place }} >> {{ e % per_place * PLACE_BITS }}u) & {{ GROUP - 1 }}u){{ " - taken.aside" if GROUP > CHUNK }};
    let number = {{ number("(value" ~ (e // per) ~ " >> " ~ (e % per * BITS) ~ "u)" if BITS < 32 else "value" ~ e) }};
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
fn take(expert: u32, places_begin: u32, row: u32, chunk: u32) -> Stored {
  let strip = chunk / {{ 32 // CHUNK }}u;
  let four = strip * ((params.n + 3u) / 4u) + row / 4u;
  let masks = places[places_begin + four];
  let own = row % 4u;
  let counts = select(vec4u(), countOneBits(masks), vec4u(0u, 1u, 2u, 3u) < vec4u(own));
  let mask = select(select(masks.x, masks.y, own == 1u), select(masks.z, masks.w, own == 3u), own >= 2u);
  let shift = chunk % {{ 32 // CHUNK }}u * CHUNK;
  var result: Stored;
  result.first = starts[expert * params.starts_stride + four] + counts.x + counts.y + counts.z + countOneBits(mask & ((1u << shift) - 1u));
  result.bits = mask >> shift;
{% if LEVELS %}
{% for i in range(value_windows) %}
  let e{{ i }} = result.first + {{ i * per }}u;
  let at{{ i }} = e{{ i }} / 32u * BITS + e{{ i }} % 32u * BITS / 32u;
  result.value{{ i }} = values[at{{ i }}];
  result.value{{ i }}_high = values[at{{ i }} + 1u];
{% endfor %}
{% else %}
{% for j in range(CHUNK) %}
  result.value{{ j }} = values[(result.first + countOneBits(result.bits & {{ MASKS[j] }}u)){{ " / 2u" if BITS == 16 }}];
{% endfor %}
{% endif %}
  return result;
}

fn unpack(taken: Stored, grid: vec2f) -> Weights {
{% if LEVELS %}
{% for i in range(value_windows) %}
  let value{{ i }} = funnel(taken.value{{ i }}, taken.value{{ i }}_high, (taken.first + {{ i * per }}u) % 32u * BITS % 32u);
{% endfor %}
{% endif %}
  var result = Weights();
{% for j in range(CHUNK) %}
  {
{% if LEVELS or BITS == 16 %}
    let before = countOneBits(taken.bits & {{ MASKS[j] }}u);
{% endif %}
{% if not LEVELS %}
    let number = {{ number("(taken.value" ~ j ~ " >> ((taken.first + before) % 2u * 16u))" if BITS == 16 else "taken.value" ~ j) }};
{% elif value_windows == 1 %}
    let number = {{ number("(value0 >> (before * BITS))") }};
{% else %}
    let second = before >= {{ per }}u;
    let number = {{ number("(select(value0, value1, second) >> ((before - select(0u, " ~ per ~ "u, second)) * BITS))") }};
{% endif %}
    result.w{{ j // 4 }}.{{ "xyzw"[j % 4] }} = select(0.0, number, (taken.bits & {{ MASKS[j] + 1 }}u) != 0u);
  }
{% endfor %}
  return result;
}
{% endif %}
