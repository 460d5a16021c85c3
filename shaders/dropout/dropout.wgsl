// Dropout's factors: 0 for a dropped number, 1 / (1 − p) for a kept one. Put before the kernels that drop numbers. Integer arithmetic gives the same masks on every
// adapter, and on the host (model/reference/dropout.ts).
//
// dropout_key [2] u32: the hash of (seed, update, micro-batch) that dropout_key.wgsl leaves first. params: dropout_place (hash of the place's name),
// dropout_threshold (p · 2³²), dropout_keep (1 / (1 − p)). A number is dropped where the hash of (key, place, row, column) is below the threshold. All come for one
// number and, named in the plural, for four.
{% macro define(type, float, plural) %}
fn dropout_mix{{ "es" if plural else "" }}(x: {{ type }}) -> {{ type }} {
  var v = x ^ (x >> {{ type }}(16u));
  v *= 0x21f0aaadu;
  v ^= v >> {{ type }}(15u);
  v *= 0xd35a2d97u;
  return v ^ (v >> {{ type }}(15u));
}

// The hashes of a row's numbers start from this.
fn dropout_row{{ plural }}(row: {{ type }}) -> {{ type }} {
  return dropout_mix{{ "es" if plural else "" }}(row * 0x9e3779b9u + dropout_mix(dropout_key[0] ^ params.dropout_place));
}

// Factors, given what their rows start from.
fn dropout_factor{{ plural }}(start: {{ type }}, column: {{ type }}) -> {{ float }} {
  return select({{ float }}(params.dropout_keep), {{ float }}(), dropout_mix{{ "es" if plural else "" }}(start ^ column) < {{ type }}(params.dropout_threshold));
}
{% endmacro %}
{{ define("u32", "f32", "") }}
{{ define("vec4u", "vec4f", "s") }}
