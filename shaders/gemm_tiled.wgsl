// C = epilogue(op(A) · op(B)) through tiles in workgroup memory; layouts, params and epilogues as in gemm_direct.wgsl.
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
const STEP4 = STEP / 4u;

var<workgroup> tile_a: array<array<array<vec4f, TILE4>, STEP>, 2>;
var<workgroup> tile_b: array<array<array<vec4f, TILE4>, STEP>, 2>;

{% set quads = FRAGMENT // 4 %}
{% set loads = TILE * STEP // 1024 %}
{# Takes this invocation's part of one step into registers. #}
{% macro fetch(base) %}
  if ({{ base }} + STEP <= params.k) {
{% for i in range(loads) %}
    next_a{{ i }} = load_a(from_a{{ i }} + {{ base }}{{ " * params.lda" if LAYOUT == "tn" else " / 4u" }});
    next_b{{ i }} = load_b(from_b{{ i }} + {{ base }}{{ " / 4u" if LAYOUT == "nt" else " * params.ldb" }});
{% endfor %}
  } else {
    // What lies beyond K counts as zero.
{% for i in range(loads) %}
    {
      let item = lane + {{ 256 * i }}u;
      let inside_a = {{ base }} + {{ "item / TILE4" if LAYOUT == "tn" else "4u * (item % STEP4)" }} < params.k;
      let inside_b = {{ base }} + {{ "4u * (item % STEP4)" if LAYOUT == "nt" else "item / TILE4" }} < params.k;
      let at_a = from_a{{ i }} + {{ base }}{{ " * params.lda" if LAYOUT == "tn" else " / 4u" }};
      let at_b = from_b{{ i }} + {{ base }}{{ " / 4u" if LAYOUT == "nt" else " * params.ldb" }};
      next_a{{ i }} = select(vec4f(), load_a(select(0u, at_a, inside_a)), inside_a);
      next_b{{ i }} = select(vec4f(), load_b(select(0u, at_b, inside_b)), inside_b);
    }
{% endfor %}
  }
{% endmacro %}
{# Four numbers of one row of an operand go to four rows of its tile. #}
{% macro transpose(tile, value) %}
    {
      let row = item / STEP4;
      let k = item % STEP4 * 4u;
{% for j in range(4) %}
      {{ tile }}[k + {{ j }}u][row / 4u][row % 4u] = {{ value }}[{{ j }}];
{% endfor %}
    }
{% endmacro %}
{% macro put(buffer) %}
{% for i in range(loads) %}
  {
    let item = lane + {{ 256 * i }}u;
{% if LAYOUT == "tn" %}
    tile_a[{{ buffer }}][item / TILE4][item % TILE4] = next_a{{ i }};
{% else %}
{{ transpose("tile_a[" ~ buffer ~ "]", "next_a" ~ i) }}
{% endif %}
{% if LAYOUT == "nt" %}
{{ transpose("tile_b[" ~ buffer ~ "]", "next_b" ~ i) }}
{% else %}
    tile_b[{{ buffer }}][item / TILE4][item % TILE4] = next_b{{ i }};
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
  let across = (params.n + TILE - 1u) / TILE;
{% if SPLIT %}
  let number = workgroup_number(id, count);
  let tiles = across * ((params.m + TILE - 1u) / TILE);
  let split = number / tiles;
  if (split >= params.splits) { return; }
  let tile = number % tiles;
  let begin = split * params.range;
  let end = min(params.k, begin + params.range);
{% else %}
  let tile = workgroup_number(id, count);
  let begin = 0u;
  let end = params.k;
{% endif %}
  let top = (tile / across) * TILE;
  let left = (tile % across) * TILE;
  // The whole workgroup leaves together, so the barriers below stay uniform.
  if (top >= params.m) { return; }
  // 32 neighbours work on 8 × 4 fragments: they read fewer different numbers than 16 × 2 would.
  let x = lane % 8u + lane / 32u % 2u * 8u;
  let y = lane / 8u % 4u + lane / 64u * 4u;
{% for r in range(FRAGMENT) %}{% for c in range(quads) %}
  var c{{ r }}_{{ c }} = vec4f();
{% endfor %}{% endfor %}
{% for i in range(loads) %}
  var next_a{{ i }}: vec4f;
  var next_b{{ i }}: vec4f;
  // Where this invocation reads at K = 0. Rows and columns beyond the matrix repeat the last ones; what they give is not stored.
  let item{{ i }} = lane + {{ 256 * i }}u;
{% if LAYOUT == "tn" %}
  let from_a{{ i }} = params.a_start + item{{ i }} / TILE4 * params.lda + min(top / 4u + item{{ i }} % TILE4, (params.m - 1u) / 4u);
{% else %}
  let from_a{{ i }} = params.a_start + min(top + item{{ i }} / STEP4, params.m - 1u) * params.lda + item{{ i }} % STEP4;
{% endif %}
{% if LAYOUT == "nt" %}
  let from_b{{ i }} = params.b_start + min(left + item{{ i }} / STEP4, params.n - 1u) * params.ldb + item{{ i }} % STEP4;
{% else %}
  let from_b{{ i }} = params.b_start + item{{ i }} / TILE4 * params.ldb + min(left / 4u + item{{ i }} % TILE4, (params.n - 1u) / 4u);
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
