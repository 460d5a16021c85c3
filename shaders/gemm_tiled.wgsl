// C = epilogue(op(A) · op(B)) through tiles in workgroup memory; layouts, params and epilogues as in gemm_direct.wgsl.
// HALVES: A and B are f16, read as bits, eight halves a load, and a_start, lda, b_start and ldb count eights.
//
// A workgroup of 16 × 16 invocations computes a TILE × TILE block of C, each invocation FRAGMENT × FRAGMENT numbers, in steps of STEP along K.
// Both operands are kept K-major (a row of a tile holds TILE numbers of one k), whatever the layout, so the inner loop is the same:
// FRAGMENT² products for 2·FRAGMENT loads from workgroup memory. While one step is multiplied the next is on its way from memory: two buffers, one barrier a step.
// Arrays are nested and all their indices but one are constants, since naga clamps each dynamic one. Bound by arithmetic, two thirds of its peak; by
// the number of tiles for small matrices.
//
// SPLIT: K is cut into `splits` ranges of `range` (a multiple of 2·STEP), each with workgroups of its own, which write p [splits, M, N padded to 4];
// gemm_reduce.wgsl adds them up in order. For few tiles with long sums, such as the gradients of weights.

const TILE4 = TILE / 4u;

var<workgroup> tile_a: array<array<array<vec4f, TILE4>, STEP>, 2>;
var<workgroup> tile_b: array<array<array<vec4f, TILE4>, STEP>, 2>;

{% set quads = FRAGMENT // 4 %}
// Numbers that one load gives: four, or the bits of eight halves.
{% set LOAD = 8 if HALVES else 4 %}
{% set loads = TILE * STEP // 256 // LOAD %}
{% set NEXT = "vec4u" if HALVES else "vec4f" %}
const ACROSS = TILE / {{ LOAD }}u;
const ALONG = STEP / {{ LOAD }}u;
{% macro load(operand, at) %}{% if HALVES %}{{ operand }}[{{ at }}]{% else %}load_{{ operand }}({{ at }}){% endif %}{% endmacro %}
{# Takes this invocation's part of the operands of one step into registers. #}
{% macro fetch(base) %}
{% set move_a = base ~ (" * params.lda" if LAYOUT == "tn" else " / " ~ LOAD ~ "u") %}
{% set move_b = base ~ (" / " ~ LOAD ~ "u" if LAYOUT == "nt" else " * params.ldb") %}
  if ({{ base }} + STEP <= params.k) {
{% for i in range(loads) %}
    next_a{{ i }} = {{ load("a", "from_a" ~ i ~ " + " ~ move_a) }};
    next_b{{ i }} = {{ load("b", "from_b" ~ i ~ " + " ~ move_b) }};
{% endfor %}
  } else {
    // What lies beyond K counts as zero.
{% for i in range(loads) %}
    {
      let item = lane + {{ 256 * i }}u;
      let inside_a = {{ base }} + {{ "item / ACROSS" if LAYOUT == "tn" else LOAD ~ "u * (item % ALONG)" }} < params.k;
      let inside_b = {{ base }} + {{ LOAD ~ "u * (item % ALONG)" if LAYOUT == "nt" else "item / ACROSS" }} < params.k;
      next_a{{ i }} = select({{ NEXT }}(), {{ load("a", "select(0u, from_a" ~ i ~ " + " ~ move_a ~ ", inside_a)") }}, inside_a);
      next_b{{ i }} = select({{ NEXT }}(), {{ load("b", "select(0u, from_b" ~ i ~ " + " ~ move_b ~ ", inside_b)") }}, inside_b);
    }
{% endfor %}
  }
{% endmacro %}
{# What was loaded as vec4s of f32. #}
{% macro part(value, p) %}{% if HALVES %}vec4f(unpack2x16float({{ value }}[{{ 2 * p }}]), unpack2x16float({{ value }}[{{ 2 * p + 1 }}])){% else %}{{ value }}{% endif %}{% endmacro %}
{# Numbers of one row of an operand go to as many rows of its tile. #}
{% macro transpose(tile, value) %}
    {
      let row = item / ALONG;
      let k = item % ALONG * {{ LOAD }}u;
{% for p in range(LOAD // 4) %}
      let v{{ p }} = {{ part(value, p) }};
{% for j in range(4) %}
      {{ tile }}[k + {{ 4 * p + j }}u][row / 4u][row % 4u] = v{{ p }}[{{ j }}];
{% endfor %}
{% endfor %}
    }
{% endmacro %}
{% macro copy(tile, value) %}
{% for p in range(LOAD // 4) %}
    {{ tile }}[item / ACROSS][item % ACROSS * {{ LOAD // 4 }}u + {{ p }}u] = {{ part(value, p) }};
{% endfor %}
{% endmacro %}
{% macro put(buffer) %}
{% for i in range(loads) %}
  {
    let item = lane + {{ 256 * i }}u;
{% if LAYOUT == "tn" %}
{{ copy("tile_a[" ~ buffer ~ "]", "next_a" ~ i) }}
{% else %}
{{ transpose("tile_a[" ~ buffer ~ "]", "next_a" ~ i) }}
{% endif %}
{% if LAYOUT == "nt" %}
{{ transpose("tile_b[" ~ buffer ~ "]", "next_b" ~ i) }}
{% else %}
{{ copy("tile_b[" ~ buffer ~ "]", "next_b" ~ i) }}
{% endif %}
  }
{% endfor %}
{% endmacro %}
{% macro multiply(buffer) %}
{% for k in range(STEP) %}
  {
{% for i in range(quads) %}
    let a{{ i }} = tile_a[{{ buffer }}][{{ k }}][y + {{ 16 * i }}u];
    let b{{ i }} = tile_b[{{ buffer }}][{{ k }}][x + {{ 16 * i }}u];
{% endfor %}
{% for r in range(FRAGMENT) %}{% for c in range(quads) %}
    c{{ r }}_{{ c }} = fma(vec4f(a{{ r // 4 }}[{{ r % 4 }}]), b{{ c }}, c{{ r }}_{{ c }});
{% endfor %}{% endfor %}
  }
{% endfor %}
{% endmacro %}
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
{{ own_tile("top", "left") }}
  // 32 neighbours work on 8 × 4 fragments: they read fewer different numbers than 16 × 2 would.
  let x = lane % 8u + lane / 32u % 2u * 8u;
  let y = lane / 8u % 4u + lane / 64u * 4u;
{% for r in range(FRAGMENT) %}{% for c in range(quads) %}
  var c{{ r }}_{{ c }} = vec4f();
{% endfor %}{% endfor %}
{% for i in range(loads) %}
  var next_a{{ i }}: {{ NEXT }};
  var next_b{{ i }}: {{ NEXT }};
  // Where this invocation reads at K = 0. Rows and columns beyond the matrix repeat the last ones; what they give is not stored.
  let item{{ i }} = lane + {{ 256 * i }}u;
{% if LAYOUT == "tn" %}
  let from_a{{ i }} = params.a_start + item{{ i }} / ACROSS * params.lda + min(top / {{ LOAD }}u + item{{ i }} % ACROSS, (params.m - 1u) / {{ LOAD }}u);
{% else %}
  let from_a{{ i }} = params.a_start + min(top + item{{ i }} / ALONG, params.m - 1u) * params.lda + item{{ i }} % ALONG;
{% endif %}
{% if LAYOUT == "nt" %}
  let from_b{{ i }} = params.b_start + min(left + item{{ i }} / ALONG, params.n - 1u) * params.ldb + item{{ i }} % ALONG;
{% else %}
  let from_b{{ i }} = params.b_start + item{{ i }} / ACROSS * params.ldb + min(left / {{ LOAD }}u + item{{ i }} % ACROSS, (params.n - 1u) / {{ LOAD }}u);
{% endif %}
{% endfor %}
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
    let row = top + 4u * y + {{ 64 * (r // 4) + r % 4 }}u;
    if (row < params.m) {
{% for c in range(quads) %}
      let column{{ c }} = left / 4u + x + {{ 16 * c }}u;
{% if SPLIT %}
      if (column{{ c }} < columns4) { store_p((split * params.m + row) * columns4 + column{{ c }}, c{{ r }}_{{ c }}); }
{% else %}
      if (column{{ c }} < columns4) { finish(row, column{{ c }}, c{{ r }}_{{ c }}); }
{% endif %}
{% endfor %}
    }
  }
{% endfor %}
}
