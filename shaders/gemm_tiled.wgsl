// C = epilogue(op(A) · op(B)) through tiles in workgroup memory; layouts, params and epilogues as in gemm_direct.wgsl.
// TYPE_A, TYPE_B: what one load of an operand gives, in which its start and stride are counted: "vec4f", "vec4<f16>" or "vec2u" (four numbers; the bits of
// halves), or "vec4u" (the bits of eight halves).
//
// A workgroup computes a TILE_M × TILE_N block of C, each invocation FRAGMENT_M × FRAGMENT_N numbers, in steps of STEP along K.
// Both operands are kept K-major (a row of a tile holds numbers of one k), whatever the layout, so the inner loop is the same:
// FRAGMENT_M · FRAGMENT_N products for FRAGMENT_M + FRAGMENT_N numbers from workgroup memory. While one step is multiplied the next is on its way from memory: two buffers, one barrier a step.
// Arrays are nested and all their indices but one are constants, since naga clamps each dynamic one. Bound by arithmetic, two thirds of its peak; by
// the number of tiles for small matrices. Operands that are stored the other way cost 8 to 20 %: large ones are transposed first (turn.wgsl).
//
// SPLIT: K is cut into `splits` ranges of `range` (a multiple of 2·STEP), each with workgroups of its own, which write p [splits, M, N padded to 4];
// gemm_reduce.wgsl adds them up in order. For few tiles with long sums, such as the gradients of weights. PAIRED as in gemm_tile.wgsl.

{% set quads_m = FRAGMENT_M // 4 %}
{% set quads_n = FRAGMENT_N // 4 %}
{% set invocations = TILE_M * TILE_N // (FRAGMENT_M * FRAGMENT_N) %}
// Invocations along a row of tiles and along a column.
const ACROSS = {{ TILE_N // FRAGMENT_N }}u;
const DOWN = {{ TILE_M // FRAGMENT_M }}u;
var<workgroup> tile_a: array<array<array<vec4f, TILE_M / 4u>, STEP>, 2>;
var<workgroup> tile_b: array<array<array<vec4f, TILE_N / 4u>, STEP>, 2>;

{# Whether an operand is stored with K along its rows, numbers of a load, loads of an invocation. #}
{% set turned_a = LAYOUT != "tn" %}
{% set turned_b = LAYOUT == "nt" %}
{% set load_a = 8 if TYPE_A == "vec4u" else 4 %}
{% set load_b = 8 if TYPE_B == "vec4u" else 4 %}
{% set loads_a = TILE_M * STEP // invocations // load_a %}
{% set loads_b = TILE_N * STEP // invocations // load_b %}
{# What was loaded as vec4s of f32, the p-th of it. #}
{% macro wide(type, value, p) %}{% if type == "vec4u" %}vec4f(unpack2x16float({{ value }}[{{ 2 * p }}]), unpack2x16float({{ value }}[{{ 2 * p + 1 }}])){% elif type == "vec2u" %}vec4f(unpack2x16float({{ value }}.x), unpack2x16float({{ value }}.y)){% elif type == "vec4f" %}{{ value }}{% else %}vec4f({{ value }}){% endif %}{% endmacro %}
{# Where an invocation reads at K = 0. Rows and columns beyond the matrix repeat the last ones; what they give is not stored. #}
{% macro begin_operand(name, turned, loads, load, type, tile, first, ld, size) %}
{% for i in range(loads) %}
  var next_{{ name }}{{ i }}: {{ type }};
  let item_{{ name }}{{ i }} = lane + {{ i * invocations }}u;
{% if turned %}
  let from_{{ name }}{{ i }} = {{ name }}_start + min({{ first }} + item_{{ name }}{{ i }} / {{ STEP // load }}u, {{ size }} - 1u) * {{ ld }} + item_{{ name }}{{ i }} % {{ STEP // load }}u;
{% else %}
  let from_{{ name }}{{ i }} = {{ name }}_start + item_{{ name }}{{ i }} / {{ tile // load }}u * {{ ld }} + min({{ first }} / {{ load }}u + item_{{ name }}{{ i }} % {{ tile // load }}u, ({{ size }} - 1u) / {{ load }}u);
{% endif %}
{% endfor %}
{% endmacro %}
{# Takes this invocation's part of one step into registers; at the end of the sum, what lies beyond it counts as zero. #}
{% macro fetch_operand(name, turned, loads, load, type, tile, ld, base, last) %}
{% set move = base ~ (" / " ~ load ~ "u" if turned else " * " ~ ld) %}
{% for i in range(loads) %}
{% if last %}
    {
      let item = lane + {{ i * invocations }}u;
      let inside = {{ base }} + {{ load ~ "u * (item % " ~ (STEP // load) ~ "u)" if turned else "item / " ~ (tile // load) ~ "u" }} < params.k;
      next_{{ name }}{{ i }} = select({{ type }}(), {{ name }}[select(0u, from_{{ name }}{{ i }} + {{ move }}, inside)], inside);
    }
{% else %}
    next_{{ name }}{{ i }} = {{ name }}[from_{{ name }}{{ i }} + {{ move }}];
{% endif %}
{% endfor %}
{% endmacro %}
{% macro fetch(base) %}
  if ({{ base }} + STEP <= params.k) {
{{ fetch_operand("a", turned_a, loads_a, load_a, TYPE_A, TILE_M, "params.lda", base, false) }}
{{ fetch_operand("b", turned_b, loads_b, load_b, TYPE_B, TILE_N, "params.ldb", base, false) }}
  } else {
{{ fetch_operand("a", turned_a, loads_a, load_a, TYPE_A, TILE_M, "params.lda", base, true) }}
{{ fetch_operand("b", turned_b, loads_b, load_b, TYPE_B, TILE_N, "params.ldb", base, true) }}
  }
{% endmacro %}
{# Numbers of one row of an operand that is turned go to as many rows of its tile. #}
{% macro put_operand(name, turned, loads, load, type, tile, buffer) %}
{% for i in range(loads) %}
  {
    let item = lane + {{ i * invocations }}u;
{% for p in range(load // 4) %}
    let v{{ p }} = {{ wide(type, "next_" ~ name ~ i, p) }};
{% if turned %}
    let row{{ p }} = item / {{ STEP // load }}u;
    let k{{ p }} = item % {{ STEP // load }}u * {{ load }}u + {{ 4 * p }}u;
{% for j in range(4) %}
    tile_{{ name }}[{{ buffer }}][k{{ p }} + {{ j }}u][row{{ p }} / 4u][row{{ p }} % 4u] = v{{ p }}[{{ j }}];
{% endfor %}
{% else %}
    tile_{{ name }}[{{ buffer }}][item / {{ tile // load }}u][item % {{ tile // load }}u * {{ load // 4 }}u + {{ p }}u] = v{{ p }};
{% endif %}
{% endfor %}
  }
{% endfor %}
{% endmacro %}
{% macro put(buffer) %}
{{ put_operand("a", turned_a, loads_a, load_a, TYPE_A, TILE_M, buffer) }}
{{ put_operand("b", turned_b, loads_b, load_b, TYPE_B, TILE_N, buffer) }}
{% endmacro %}
{% macro multiply(buffer) %}
{% for k in range(STEP) %}
  {
{% for i in range(quads_m) %}
    let a{{ i }} = tile_a[{{ buffer }}][{{ k }}][y + {{ i }}u * DOWN];
{% endfor %}
{% for i in range(quads_n) %}
    let b{{ i }} = tile_b[{{ buffer }}][{{ k }}][x + {{ i }}u * ACROSS];
{% endfor %}
{% for r in range(FRAGMENT_M) %}{% for c in range(quads_n) %}
    c{{ r }}_{{ c }} = fma(vec4f(a{{ r // 4 }}[{{ r % 4 }}]), b{{ c }}, c{{ r }}_{{ c }});
{% endfor %}{% endfor %}
  }
{% endfor %}
{% endmacro %}
@compute @workgroup_size({{ invocations }})
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
{{ own_tile("top", "left") }}
  // 32 neighbours work on 8 × 4 fragments: they read fewer different numbers than 16 × 2 would.
  let x = lane % 8u + lane / 32u % (ACROSS / 8u) * 8u;
  let y = lane / 8u % 4u + lane / (4u * ACROSS) * 4u;
{% for r in range(FRAGMENT_M) %}{% for c in range(quads_n) %}
  var c{{ r }}_{{ c }} = vec4f();
{% endfor %}{% endfor %}
{{ begin_operand("a", turned_a, loads_a, load_a, TYPE_A, TILE_M, "top", "params.lda", "params.m") }}
{{ begin_operand("b", turned_b, loads_b, load_b, TYPE_B, TILE_N, "left", "params.ldb", "params.n") }}
{{ fetch("begin") }}
{{ put("0") }}
  workgroupBarrier();
  for (var base = begin; base < end; base += 2u * STEP) {
{{ fetch("(base + STEP)") }}
{{ multiply("0") }}
{{ put("1") }}
    workgroupBarrier();
    if (base + 2u * STEP < end) {
{{ fetch("(base + 2u * STEP)") }}
    }
{{ multiply("1") }}
{{ put("0") }}
    workgroupBarrier();
  }

  let columns4 = (params.n + 3u) / 4u;
{% for i in range(quads_m) %}
  // Four rows at a time: what the epilogue reads, then what is stored.
  {
    let row0 = top + 4u * y + {{ i }}u * 4u * DOWN;
{% if not SPLIT %}
{% for r in range(4) %}
    let of_row{{ r }} = beside_row(min(row0 + {{ r }}u, params.m - 1u));
{% for c in range(quads_n) %}
    let at{{ r }}_{{ c }} = c_start + (row0 + {{ r }}u) * params.ldc + left / 4u + x + {{ c }}u * ACROSS;
    let other{{ r }}_{{ c }} = beside(at{{ r }}_{{ c }});
{% endfor %}
{% endfor %}
{% endif %}
{% for r in range(4) %}
    if (row0 + {{ r }}u < params.m) {
{% for c in range(quads_n) %}
      let column{{ c }} = left / 4u + x + {{ c }}u * ACROSS;
{% if SPLIT %}
      if (column{{ c }} < columns4) { store_p((split * params.m + row0 + {{ r }}u) * columns4 + column{{ c }}, c{{ 4 * i + r }}_{{ c }}); }
{% else %}
      if (column{{ c }} < columns4) { finish(at{{ r }}_{{ c }}, row0 + {{ r }}u, column{{ c }}, c{{ 4 * i + r }}_{{ c }}, other{{ r }}_{{ c }}, of_row{{ r }}); }
{% endif %}
{% endfor %}
    }
{% endfor %}
  }
{% endfor %}
}
