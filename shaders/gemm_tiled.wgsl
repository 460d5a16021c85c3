// C = epilogue(op(A) · op(B)) through tiles in workgroup memory; layouts, params and epilogues as in gemm_direct.wgsl.
// TYPE_A, TYPE_B: what one load of an operand gives, in which its start and stride are counted: "vec4f", "vec4<f16>" or "vec2u" (four numbers; the bits of
// halves), or "vec4u" (the bits of eight halves, for operands that are stored K-major).
//
// A workgroup computes a TILE_M × TILE_N block of C, each invocation FRAGMENT × FRAGMENT numbers, in steps of STEP along K.
// Both operands are kept K-major (a row of a tile holds numbers of one k), whatever the layout, so the inner loop is the same:
// FRAGMENT² products for 2·FRAGMENT loads from workgroup memory. What is stored the other way is turned as blocks of 4 × 4 numbers in registers, by some of the
// invocations. While one step is multiplied the next is on its way from memory: two buffers, one barrier a step.
// Arrays are nested and all their indices but one are constants, or the same in each step, since naga clamps each dynamic one. Bound by arithmetic, two thirds
// of its peak; by the number of tiles for small matrices.
//
// SPLIT: K is cut into `splits` ranges of `range` (a multiple of 2·STEP), each with workgroups of its own, which write p [splits, M, N padded to 4];
// gemm_reduce.wgsl adds them up in order. For few tiles with long sums, such as the gradients of weights. PAIRED as in gemm_tile.wgsl.

{% set quads = FRAGMENT // 4 %}
{% set invocations = TILE_M * TILE_N // (FRAGMENT * FRAGMENT) %}
// Invocations along a row of tiles and along a column.
const ACROSS = {{ TILE_N // FRAGMENT }}u;
const DOWN = {{ TILE_M // FRAGMENT }}u;
{# Whether an operand is stored with K along its rows. #}
{% set turned_a = LAYOUT != "tn" %}
{% set turned_b = LAYOUT == "nt" %}
{# Blocks of 4 × 4 that are turned; numbers of a load and loads of an invocation otherwise. #}
{% set blocks_a = TILE_M * STEP // 16 %}
{% set blocks_b = TILE_N * STEP // 16 %}
{% set load_a = 8 if TYPE_A == "vec4u" else 4 %}
{% set load_b = 8 if TYPE_B == "vec4u" else 4 %}
{% set loads_a = 4 if turned_a else TILE_M * STEP // invocations // load_a %}
{% set loads_b = 4 if turned_b else TILE_N * STEP // invocations // load_b %}
{# Invocations that turn A are not those that turn B: their registers are the same. #}
{% set shared = turned_a and turned_b and TYPE_A == TYPE_B and blocks_a + blocks_b <= invocations %}
{% set of_b = "a" if shared else "b" %}
{% macro tile_type(turned, tile) %}{% if turned %}array<array<array<array<vec4f, {{ tile // 4 }}>, 4>, {{ STEP // 4 }}>, 2>{% else %}array<array<array<vec4f, {{ tile // 4 }}>, {{ STEP }}>, 2>{% endif %}{% endmacro %}
var<workgroup> tile_a: {{ tile_type(turned_a, TILE_M) }};
var<workgroup> tile_b: {{ tile_type(turned_b, TILE_N) }};

{% macro row_of(turned, k) %}{% if turned %}[{{ k // 4 }}][{{ k % 4 }}]{% else %}[{{ k }}]{% endif %}{% endmacro %}
{# What was loaded as vec4s of f32, the p-th of it. #}
{% macro wide(type, value, p) %}{% if type == "vec4u" %}vec4f(unpack2x16float({{ value }}[{{ 2 * p }}]), unpack2x16float({{ value }}[{{ 2 * p + 1 }}])){% elif type == "vec2u" %}vec4f(unpack2x16float({{ value }}.x), unpack2x16float({{ value }}.y)){% elif type == "vec4f" %}{{ value }}{% else %}vec4f({{ value }}){% endif %}{% endmacro %}
{% set turns_a = "lane < " ~ blocks_a ~ "u" %}
{% set turns_b = "lane >= " ~ (invocations - blocks_b) ~ "u" %}
{# Where an invocation's block lies: neighbours have neighbouring rows, so that what they write falls on different banks. #}
{% macro begin_turned(own, turns, blocks, first, start, ld, size) %}
  if ({{ turns }}) {
    let item = lane % {{ blocks }}u;
    part_{{ own }} = item / 8u % {{ STEP // 4 }}u;
    block_{{ own }} = item % 8u + item / {{ 2 * STEP }}u * 8u;
    let row = {{ first }} + 4u * block_{{ own }};
{% for r in range(4) %}
    from_{{ own }}{{ r }} = {{ start }} + min(row + {{ r }}u, {{ size }} - 1u) * {{ ld }} + part_{{ own }};
{% endfor %}
  }
{% endmacro %}
{% macro begin_copied(operand, loads, load, tile, first, start, ld, size) %}
{% for i in range(loads) %}
  {
    let item = lane + {{ i * invocations }}u;
    from_{{ operand }}{{ i }} = {{ start }} + item / {{ tile // load }}u * {{ ld }} + min({{ first }} / {{ load }}u + item % {{ tile // load }}u, ({{ size }} - 1u) / {{ load }}u);
  }
{% endfor %}
{% endmacro %}
{# Takes this invocation's part of one step into registers; what lies beyond K counts as zero. #}
{% macro fetch_turned(operand, own, turns, type, base) %}
  if ({{ turns }} && {{ base }} + 4u * part_{{ own }} < params.k) {
{% for r in range(4) %}
    next_{{ own }}{{ r }} = {{ operand }}[from_{{ own }}{{ r }} + {{ base }} / 4u];
{% endfor %}
  } else if ({{ turns }}) {
{% for r in range(4) %}
    next_{{ own }}{{ r }} = {{ type }}();
{% endfor %}
  }
{% endmacro %}
{% macro fetch_copied(operand, loads, load, tile, type, ld, base) %}
{% for i in range(loads) %}
  if ({{ base }} + (lane + {{ i * invocations }}u) / {{ tile // load }}u < params.k) {
    next_{{ operand }}{{ i }} = {{ operand }}[from_{{ operand }}{{ i }} + {{ base }} * {{ ld }}];
  } else {
    next_{{ operand }}{{ i }} = {{ type }}();
  }
{% endfor %}
{% endmacro %}
{% macro fetch(base) %}
{% if turned_a %}
{{ fetch_turned("a", "a", turns_a, TYPE_A, base) }}
{% else %}
{{ fetch_copied("a", loads_a, load_a, TILE_M, TYPE_A, "params.lda", base) }}
{% endif %}
{% if turned_b %}
{{ fetch_turned("b", of_b, turns_b, TYPE_B, base) }}
{% else %}
{{ fetch_copied("b", loads_b, load_b, TILE_N, TYPE_B, "params.ldb", base) }}
{% endif %}
{% endmacro %}
{% macro put_turned(operand, own, turns, type, buffer) %}
  if ({{ turns }}) {
{% for r in range(4) %}
    let v{{ r }} = {{ wide(type, "next_" ~ own ~ r, 0) }};
{% endfor %}
{% for j in range(4) %}
    tile_{{ operand }}[{{ buffer }}][part_{{ own }}][{{ j }}][block_{{ own }}] = vec4f(v0[{{ j }}], v1[{{ j }}], v2[{{ j }}], v3[{{ j }}]);
{% endfor %}
  }
{% endmacro %}
{% macro put_copied(operand, loads, load, tile, type, buffer) %}
{% for i in range(loads) %}
  {
    let item = lane + {{ i * invocations }}u;
{% for p in range(load // 4) %}
    tile_{{ operand }}[{{ buffer }}][item / {{ tile // load }}u][item % {{ tile // load }}u * {{ load // 4 }}u + {{ p }}u] = {{ wide(type, "next_" ~ operand ~ i, p) }};
{% endfor %}
  }
{% endfor %}
{% endmacro %}
{% macro put(buffer) %}
{% if turned_a %}
{{ put_turned("a", "a", turns_a, TYPE_A, buffer) }}
{% else %}
{{ put_copied("a", loads_a, load_a, TILE_M, TYPE_A, buffer) }}
{% endif %}
{% if turned_b %}
{{ put_turned("b", of_b, turns_b, TYPE_B, buffer) }}
{% else %}
{{ put_copied("b", loads_b, load_b, TILE_N, TYPE_B, buffer) }}
{% endif %}
{% endmacro %}
{% macro multiply(buffer) %}
{% for k in range(STEP) %}
  {
{% for i in range(quads) %}
    let a{{ i }} = tile_a[{{ buffer }}]{{ row_of(turned_a, k) }}[y + {{ i }}u * DOWN];
    let b{{ i }} = tile_b[{{ buffer }}]{{ row_of(turned_b, k) }}[x + {{ i }}u * ACROSS];
{% endfor %}
{% for r in range(FRAGMENT) %}{% for c in range(quads) %}
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
{% for r in range(FRAGMENT) %}{% for c in range(quads) %}
  var c{{ r }}_{{ c }} = vec4f();
{% endfor %}{% endfor %}
  // Where this invocation reads at K = 0. Rows and columns beyond the matrix repeat the last ones; what they give is not stored.
{% for i in range(loads_a) %}
  var next_a{{ i }} = {{ TYPE_A }}();
  var from_a{{ i }}: u32;
{% endfor %}
{% if turned_a %}
  var part_a: u32;
  var block_a: u32;
{% endif %}
{% if not shared %}
{% for i in range(loads_b) %}
  var next_b{{ i }} = {{ TYPE_B }}();
  var from_b{{ i }}: u32;
{% endfor %}
{% if turned_b %}
  var part_b: u32;
  var block_b: u32;
{% endif %}
{% endif %}
{% if turned_a %}
{{ begin_turned("a", turns_a, blocks_a, "top", "a_start", "params.lda", "params.m") }}
{% else %}
{{ begin_copied("a", loads_a, load_a, TILE_M, "top", "a_start", "params.lda", "params.m") }}
{% endif %}
{% if turned_b %}
{{ begin_turned(of_b, turns_b, blocks_b, "left", "b_start", "params.ldb", "params.n") }}
{% else %}
{{ begin_copied("b", loads_b, load_b, TILE_N, "left", "b_start", "params.ldb", "params.n") }}
{% endif %}
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
{% for r in range(FRAGMENT) %}
  {
    let row = top + 4u * y + {{ r // 4 }}u * 4u * DOWN + {{ r % 4 }}u;
    if (row < params.m) {
{% for c in range(quads) %}
      let column{{ c }} = left / 4u + x + {{ c }}u * ACROSS;
{% if SPLIT %}
      if (column{{ c }} < columns4) { store_p((split * params.m + row) * columns4 + column{{ c }}, c{{ r }}_{{ c }}); }
{% else %}
      if (column{{ c }} < columns4) { finish(c_start + row * params.ldc + column{{ c }}, row, column{{ c }}, c{{ r }}_{{ c }}); }
{% endif %}
{% endfor %}
    }
  }
{% endfor %}
}
