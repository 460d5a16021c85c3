// C = epilogue(op(A) · op(B)) on matrix units; layouts and epilogues as in gemm_direct.wgsl, A and B f16, read as bits.
//
// Params as there, except that a_start, lda, b_start and ldb count eights of halves. K is a multiple of STEP.
//
// A workgroup of four subgroups computes a TILE × TILE block of C (TILE 128), each subgroup a quarter as accumulators of M × N numbers in f32, in steps of STEP
// along K. Operands lie in workgroup memory as they lie in memory, with rows padded so that the rows of a matrix unit fall on different
// banks; the transposed layouts only load them the other way round. While one step is multiplied the next comes from memory into registers. The
// accumulators pass through workgroup memory to meet the epilogue, as their numbers belong to no invocation in particular.
// Bound by loads from workgroup memory and, at the tail, by the number of tiles.
//
// SPLIT as in gemm_tiled.wgsl; `range` is a multiple of STEP.

const TILE4 = TILE / 4u;
const STEP4 = STEP / 4u;
const LANES = 4u * SUBGROUP;
const HALF = TILE / 2u;
// Rows of a tile in memory order, in vec4s with two of padding.
const ROWS_A = {{ "STEP" if LAYOUT == "tn" else "TILE" }};
const WIDTH_A = {{ "TILE4" if LAYOUT == "tn" else "STEP4" }};
const STRIDE_A = WIDTH_A + 2u;
const ROWS_B = {{ "TILE" if LAYOUT == "nt" else "STEP" }};
const WIDTH_B = {{ "STEP4" if LAYOUT == "nt" else "TILE4" }};
const STRIDE_B = WIDTH_B + 2u;
// A strip of results a subgroup, with one vec4 of padding.
const STRIDE_C = HALF / 4u + 1u;
const STRIP = M * STRIDE_C;

var<workgroup> tile_a: array<vec4<f16>, ROWS_A * STRIDE_A>;
var<workgroup> tile_b: array<vec4<f16>, ROWS_B * STRIDE_B>;
var<workgroup> strips: array<vec4f, 4u * STRIP>;

{% set loads = TILE * STEP // (32 * SUBGROUP) %}
// Halves of one step that neighbours read together: a row of the tile.
const ROW_A = WIDTH_A / 2u;
const ROW_B = WIDTH_B / 2u;

{# Takes this invocation's part of one step into registers, eight halves a load. #}
{% macro fetch(base) %}
  {
    let move_a = {{ base }}{{ " * params.lda" if LAYOUT == "tn" else " / 8u" }};
    let move_b = {{ base }}{{ " / 8u" if LAYOUT == "nt" else " * params.ldb" }};
{% for i in range(loads) %}
    next_a{{ i }} = a[from_a{{ i }} + move_a];
    next_b{{ i }} = b[from_b{{ i }} + move_b];
{% endfor %}
  }
{% endmacro %}
{% macro put() %}
{% for i in range(loads) %}
  {
    let item = lane + {{ i }}u * LANES;
    let at_a = item / ROW_A * STRIDE_A + item % ROW_A * 2u;
    let at_b = item / ROW_B * STRIDE_B + item % ROW_B * 2u;
    tile_a[at_a] = bitcast<vec4<f16>>(next_a{{ i }}.xy);
    tile_a[at_a + 1u] = bitcast<vec4<f16>>(next_a{{ i }}.zw);
    tile_b[at_b] = bitcast<vec4<f16>>(next_b{{ i }}.xy);
    tile_b[at_b + 1u] = bitcast<vec4<f16>>(next_b{{ i }}.zw);
  }
{% endfor %}
{% endmacro %}
{% set rows = TILE // 2 // M %}
{% set columns = TILE // 2 // N %}
@compute @workgroup_size(LANES)
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
  let subgroup = lane / SUBGROUP;
  let below = subgroup / 2u * HALF;
  let right = subgroup % 2u * HALF;
{% for i in range(rows) %}{% for j in range(columns) %}
  var c{{ i }}_{{ j }}: subgroup_matrix_result<f32, N, M>;
{% endfor %}{% endfor %}
{% for i in range(loads) %}
  var next_a{{ i }}: vec4u;
  var next_b{{ i }}: vec4u;
  // Where this invocation reads at K = 0. Rows and columns beyond the matrix repeat the last ones; what they give is not stored.
  let item{{ i }} = lane + {{ i }}u * LANES;
{% if LAYOUT == "tn" %}
  let from_a{{ i }} = params.a_start + item{{ i }} / ROW_A * params.lda + min(top / 8u + item{{ i }} % ROW_A, (params.m - 1u) / 8u);
{% else %}
  let from_a{{ i }} = params.a_start + min(top + item{{ i }} / ROW_A, params.m - 1u) * params.lda + item{{ i }} % ROW_A;
{% endif %}
{% if LAYOUT == "nt" %}
  let from_b{{ i }} = params.b_start + min(left + item{{ i }} / ROW_B, params.n - 1u) * params.ldb + item{{ i }} % ROW_B;
{% else %}
  let from_b{{ i }} = params.b_start + item{{ i }} / ROW_B * params.ldb + min(left / 8u + item{{ i }} % ROW_B, (params.n - 1u) / 8u);
{% endif %}
{% endfor %}
{{ fetch("begin") }}
{{ put() }}
  workgroupBarrier();
  for (var base = begin; base < end; base += STEP) {
    // The last step fetches itself again, which is not used.
    let ahead = select(base, base + STEP, base + STEP < end);
{{ fetch("ahead") }}
{% for k in range(STEP // K) %}
    {
{% for i in range(rows) %}
{% if LAYOUT == "tn" %}
      let a{{ i }} = subgroupMatrixLoad<subgroup_matrix_left<f16, K, M>, col_major>(&tile_a, {{ k }}u * K * STRIDE_A + (below + {{ i }}u * M) / 4u, STRIDE_A);
{% else %}
      let a{{ i }} = subgroupMatrixLoad<subgroup_matrix_left<f16, K, M>, row_major>(&tile_a, (below + {{ i }}u * M) * STRIDE_A + {{ k }}u * K / 4u, STRIDE_A);
{% endif %}
{% endfor %}
{% for j in range(columns) %}
{% if LAYOUT == "nt" %}
      let b{{ j }} = subgroupMatrixLoad<subgroup_matrix_right<f16, N, K>, col_major>(&tile_b, (right + {{ j }}u * N) * STRIDE_B + {{ k }}u * K / 4u, STRIDE_B);
{% else %}
      let b{{ j }} = subgroupMatrixLoad<subgroup_matrix_right<f16, N, K>, row_major>(&tile_b, {{ k }}u * K * STRIDE_B + (right + {{ j }}u * N) / 4u, STRIDE_B);
{% endif %}
{% for i in range(rows) %}
      c{{ i }}_{{ j }} = subgroupMatrixMultiplyAccumulate(a{{ i }}, b{{ j }}, c{{ i }}_{{ j }});
{% endfor %}
{% endfor %}
    }
{% endfor %}
    workgroupBarrier();
{{ put() }}
    workgroupBarrier();
  }

  let columns4 = (params.n + 3u) / 4u;
  let strip = subgroup * STRIP;
{% for i in range(rows) %}
{% for j in range(columns) %}
  subgroupMatrixStore<row_major>(&strips, strip + {{ j }}u * N / 4u, c{{ i }}_{{ j }}, STRIDE_C);
{% endfor %}
  workgroupBarrier();
{% for t in range(M * TILE // 8 // SUBGROUP) %}
  {
    let item = lane % SUBGROUP + {{ t }}u * SUBGROUP;
    let row = top + below + {{ i }}u * M + item / (HALF / 4u);
    let column = (left + right) / 4u + item % (HALF / 4u);
    if (row < params.m && column < columns4) {
      let v = strips[strip + item / (HALF / 4u) * STRIDE_C + item % (HALF / 4u)];
{% if SPLIT %}
      store_p((split * params.m + row) * columns4 + column, v);
{% else %}
      finish(row, column, v);
{% endif %}
    }
  }
{% endfor %}
  workgroupBarrier();
{% endfor %}
}
