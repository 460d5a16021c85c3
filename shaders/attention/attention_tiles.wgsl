{# The common part of the attention kernels on matrix units: heads' widths, and tiles of TILE keys with their values, which come from memory while others are used. A workgroup is
   four subgroups; kv and kr are f16, read as bits; `first` is a sequence's first token. #}
const M = 16u;
// Widths in eights of halves.
const NOPE8 = NOPE4 / 2u;
const ROPE8 = ROPE4 / 2u;
const V8 = V4 / 2u;
const QK8 = NOPE8 + ROPE8;
const KV8 = NOPE8 + V8;
const LANES = 128u;
const TILE = 32u;
// Rows are padded, so that the rows of a matrix fall on different banks.
const STRIDE_K = QK8 + 1u;
const STRIDE_V = V8 + 1u;
const STRIDE_S = TILE / 4u + 1u;

{# Matrices along the width of keys, and along that of values. #}
{% set depth = (NOPE4 + ROPE4) // 4 %}
{% set wide = V4 // 4 %}
{% macro declare_keys() %}
{% for i in range(NOPE4 // 8) %}
  var next_n{{ i }}: vec4u;
{% endfor %}
{% for i in range(ROPE4 // 8) %}
  var next_r{{ i }}: vec4u;
{% endfor %}
{% for i in range(V4 // 8) %}
  var next_v{{ i }}: vec4u;
{% endfor %}
{% endmacro %}
{# Starts to load the keys of the tile at j, in their two parts. #}
{% macro fetch_keys(j) %}
{% for i in range(NOPE4 // 8) %}
  {
    let item = lane + {{ i }}u * LANES;
    next_n{{ i }} = kv[((first + {{ j }} + item / NOPE8) * params.heads + head) * KV8 + item % NOPE8];
  }
{% endfor %}
{% for i in range(ROPE4 // 8) %}
  {
    let item = lane + {{ i }}u * LANES;
    next_r{{ i }} = kr[(first + {{ j }} + item / ROPE8) * ROPE8 + item % ROPE8];
  }
{% endfor %}
{% endmacro %}
{# Starts to load the values of the tile at j. #}
{% macro fetch_values(j) %}
{% for i in range(V4 // 8) %}
  {
    let item = lane + {{ i }}u * LANES;
    next_v{{ i }} = kv[((first + {{ j }} + item / V8) * params.heads + head) * KV8 + NOPE8 + item % V8];
  }
{% endfor %}
{% endmacro %}
{# Puts keys that were loaded into a tile. #}
{% macro put_keys(keys) %}
{% for i in range(NOPE4 // 8) %}
  {
    let item = lane + {{ i }}u * LANES;
    {{ keys }}[item / NOPE8 * STRIDE_K + item % NOPE8] = next_n{{ i }};
  }
{% endfor %}
{% for i in range(ROPE4 // 8) %}
  {
    let item = lane + {{ i }}u * LANES;
    {{ keys }}[item / ROPE8 * STRIDE_K + NOPE8 + item % ROPE8] = next_r{{ i }};
  }
{% endfor %}
{% endmacro %}
{# Puts values that were loaded into a tile. #}
{% macro put_values(values) %}
{% for i in range(V4 // 8) %}
  {
    let item = lane + {{ i }}u * LANES;
    {{ values }}[item / V8 * STRIDE_V + item % V8] = next_v{{ i }};
  }
{% endfor %}
{% endmacro %}
{# The product of 16 own rows in registers with a tile's rows, as matrices s0 and s1 of 16 columns each. #}
{% macro multiply_tile(own, count, tile, stride) %}
{% for c in range(2) %}
      var s{{ c }} = subgroup_matrix_result<f32, 16, 16>();
{% endfor %}
{% for d in range(count) %}{% for c in range(2) %}
      let t{{ d }}_{{ c }} = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, col_major>(&{{ tile }}, {{ c }}u * M * {{ stride }} + {{ 2 * d }}u, {{ stride }});
      s{{ c }} = subgroupMatrixMultiplyAccumulate({{ own }}{{ d }}, t{{ d }}_{{ c }}, s{{ c }});
{% endfor %}{% endfor %}
{% endmacro %}
{# Puts s0 and s1 into the subgroup's rows of `result`. #}
{% macro store_product(result, stride) %}
{% for c in range(2) %}
      subgroupMatrixStore<row_major>(&{{ result }}, strip * {{ stride }} + {{ 4 * c }}u, s{{ c }}, {{ stride }});
{% endfor %}
{% endmacro %}
