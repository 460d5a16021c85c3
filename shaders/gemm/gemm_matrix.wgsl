// C = epilogue(op(A) · op(B)) on matrix units; layouts and epilogues as in gemm_direct.wgsl, A and B f16, read as bits.
//
// Params as there, except that a_start, lda, b_start and ldb count eights of halves. K is a multiple of STEP.
//
// A workgroup of four subgroups computes a TILE_M × TILE_N block of C, each subgroup a quarter as accumulators of M × N numbers in f32, in steps of STEP
// along K. Operands lie in workgroup memory as they lie in memory, with rows padded so that the rows of a matrix unit fall on different
// banks; the transposed layouts only load them the other way round. While one step is multiplied the next comes from memory into registers.
//
// DIRECT: whole matrices go from and to memory, which takes f32, an epilogue that adds, and M and N that are multiples of the units'. Otherwise the
// accumulators pass through workgroup memory to meet the epilogue, as their numbers belong to no invocation in particular.
// Tiles at the end are moved back so that they lie within the result; what the tile before them has is not stored again. CLAMPED, for results smaller than a
// tile and columns that are no multiple of 4: rows and columns beyond repeat the last ones instead. It takes registers, of which there are none to spare.
// Bound by loads from workgroup memory and, at the tail, by the number of tiles.
//
// SPLIT as in gemm_tiled.wgsl; `range` is a multiple of STEP. PAIRED as in gemm_tile.wgsl, with whole tiles only.

const LANES = 4u * SUBGROUP;
const HALF_M = TILE_M / 2u;
const HALF_N = TILE_N / 2u;
// Rows of a tile in memory order, in eights of halves, with one of padding.
const ROW_A = {{ "TILE_M" if LAYOUT == "tn" else "STEP" }} / 8u;
const STRIDE_A = ROW_A + 1u;
const ROW_B = {{ "STEP" if LAYOUT == "nt" else "TILE_N" }} / 8u;
const STRIDE_B = ROW_B + 1u;
const TILE_B = {{ "STEP" if LAYOUT == "tn" else "TILE_M" }} * STRIDE_A;
const TILES = TILE_B + {{ "TILE_N" if LAYOUT == "nt" else "STEP" }} * STRIDE_B;
// A strip of results a subgroup, in vec4s with two of padding: four rows of eight numbers are stored at a time, and fall on different banks.
const STRIDE_C = HALF_N / 4u + 2u;
const STRIP = M * STRIDE_C;

// Both tiles, then the strips: what a unit loads need not have the type of what it loads from.
var<workgroup> memory: array<vec4u, {{ "TILES" if DIRECT else "max(TILES, 4u * STRIP)" }}>;
{% if not DIRECT %}
// Each invocation's number, to be read after the sum: what is computed from it is not kept in registers meanwhile.
var<workgroup> numbers: array<u32, LANES>;
{% endif %}

// Which row of a tile an invocation's first load takes; the next loads take rows LANES / ROW further on. Rows of a step are four eights long, and eight neighbours
// store at a time: two rows that are four apart fall on banks of their own, two that follow each other do not.
fn apart(lane: u32) -> u32 { return lane / 32u * 8u + lane % 8u / 4u * 4u + lane / 8u % 4u; }
fn row_a(lane: u32) -> u32 { return {{ "lane / ROW_A" if LAYOUT == "tn" else "apart(lane)" }}; }
fn row_b(lane: u32) -> u32 { return {{ "apart(lane)" if LAYOUT == "nt" else "lane / ROW_B" }}; }

{% set loads_a = TILE_M * STEP // (32 * SUBGROUP) %}
{% set loads_b = TILE_N * STEP // (32 * SUBGROUP) %}
{# Takes this invocation's part of one step into registers, eight halves a load. #}
{% macro fetch(base) %}
  {
    let at_a = from_a{{ "" if not CLAMPED else "0" }} + {{ base }}{{ " * params.lda" if LAYOUT == "tn" else " / 8u" }};
    let at_b = from_b{{ "" if not CLAMPED else "0" }} + {{ base }}{{ " / 8u" if LAYOUT == "nt" else " * params.ldb" }};
{% for i in range(loads_a) %}
    next_a{{ i }} = a[at_a + {{ "from_a" ~ i ~ " - from_a0" if CLAMPED else i ~ "u * (LANES / ROW_A) * params.lda" }}];
{% endfor %}
{% for i in range(loads_b) %}
    next_b{{ i }} = b[at_b + {{ "from_b" ~ i ~ " - from_b0" if CLAMPED else i ~ "u * (LANES / ROW_B) * params.ldb" }}];
{% endfor %}
  }
{% endmacro %}
{% macro put() %}
  {
    let at_a = row_a(lane) * STRIDE_A + lane % ROW_A;
    let at_b = TILE_B + row_b(lane) * STRIDE_B + lane % ROW_B;
{% for i in range(loads_a) %}
    memory[at_a + {{ i }}u * (LANES / ROW_A) * STRIDE_A] = next_a{{ i }};
{% endfor %}
{% for i in range(loads_b) %}
    memory[at_b + {{ i }}u * (LANES / ROW_B) * STRIDE_B] = next_b{{ i }};
{% endfor %}
  }
{% endmacro %}
{% set rows = TILE_M // 2 // M %}
{% set columns = TILE_N // 2 // N %}
{# Whether one of the matrices of the result is stored by this subgroup, and where. #}
{% macro stored(i, j) %}top + below + {{ i }}u * M >= own_top && top + below + {{ i }}u * M < params.m && left + right + {{ j }}u * N >= own_left && left + right + {{ j }}u * N < params.n{% endmacro %}
{% macro place(i, j) %}c_start + (top + below + {{ i }}u * M) * params.ldc + (left + right + {{ j }}u * N) / 4u{% endmacro %}
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
{{ own_tile("own_top", "own_left") }}
{% if CLAMPED %}
  let top = own_top;
  let left = own_left;
{% else %}
  let top = min(own_top, {{ "(params.m + 7u) / 8u * 8u" if LAYOUT == "tn" else "params.m" }} - TILE_M);
  let left = min(own_left, {{ "params.n" if LAYOUT == "nt" else "(params.n + 7u) / 8u * 8u" }} - TILE_N);
{% endif %}
  let subgroup = lane / SUBGROUP;
  let below = subgroup / 2u * HALF_M;
  let right = subgroup % 2u * HALF_N;
{% for i in range(rows) %}{% for j in range(columns) %}
  var c{{ i }}_{{ j }} = subgroup_matrix_result<f32, N, M>();
{% if DIRECT and EPILOGUE != "none" %}
  if ({{ stored(i, j) }}) {
    c{{ i }}_{{ j }} = subgroupMatrixLoad<subgroup_matrix_result<f32, N, M>, row_major>(&{{ "e" if EPILOGUE == "add" else "c" }}, {{ place(i, j) }}, params.ldc);
  }
{% endif %}
{% endfor %}{% endfor %}
{% if not DIRECT %}
  numbers[lane] = lane;
{% endif %}
{% for i in range(loads_a) %}
  var next_a{{ i }}: vec4u;
{% endfor %}
{% for i in range(loads_b) %}
  var next_b{{ i }}: vec4u;
{% endfor %}
  // Where this invocation reads at K = 0.
{% if CLAMPED %}
{% for i in range(loads_a) %}
  let row_a{{ i }} = row_a(lane) + {{ i }}u * (LANES / ROW_A);
{% if LAYOUT == "tn" %}
  let from_a{{ i }} = a_start + row_a{{ i }} * params.lda + min(top / 8u + lane % ROW_A, (params.m - 1u) / 8u);
{% else %}
  let from_a{{ i }} = a_start + min(top + row_a{{ i }}, params.m - 1u) * params.lda + lane % ROW_A;
{% endif %}
{% endfor %}
{% for i in range(loads_b) %}
  let row_b{{ i }} = row_b(lane) + {{ i }}u * (LANES / ROW_B);
{% if LAYOUT == "nt" %}
  let from_b{{ i }} = b_start + min(left + row_b{{ i }}, params.n - 1u) * params.ldb + lane % ROW_B;
{% else %}
  let from_b{{ i }} = b_start + row_b{{ i }} * params.ldb + min(left / 8u + lane % ROW_B, (params.n - 1u) / 8u);
{% endif %}
{% endfor %}
{% else %}
{% if LAYOUT == "tn" %}
  let from_a = a_start + row_a(lane) * params.lda + top / 8u + lane % ROW_A;
{% else %}
  let from_a = a_start + (top + row_a(lane)) * params.lda + lane % ROW_A;
{% endif %}
{% if LAYOUT == "nt" %}
  let from_b = b_start + (left + row_b(lane)) * params.ldb + lane % ROW_B;
{% else %}
  let from_b = b_start + row_b(lane) * params.ldb + left / 8u + lane % ROW_B;
{% endif %}
{% endif %}
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
      let a{{ i }} = subgroupMatrixLoad<subgroup_matrix_left<f16, K, M>, col_major>(&memory, {{ k }}u * K * STRIDE_A + (below + {{ i }}u * M) / 8u, STRIDE_A);
{% else %}
      let a{{ i }} = subgroupMatrixLoad<subgroup_matrix_left<f16, K, M>, row_major>(&memory, (below + {{ i }}u * M) * STRIDE_A + {{ k }}u * K / 8u, STRIDE_A);
{% endif %}
{% endfor %}
{% for j in range(columns) %}
{% if LAYOUT == "nt" %}
      let b{{ j }} = subgroupMatrixLoad<subgroup_matrix_right<f16, N, K>, col_major>(&memory, TILE_B + (right + {{ j }}u * N) * STRIDE_B + {{ k }}u * K / 8u, STRIDE_B);
{% else %}
      let b{{ j }} = subgroupMatrixLoad<subgroup_matrix_right<f16, N, K>, row_major>(&memory, TILE_B + {{ k }}u * K * STRIDE_B + (right + {{ j }}u * N) / 8u, STRIDE_B);
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
{% if DIRECT %}
{% for i in range(rows) %}{% for j in range(columns) %}
  if ({{ stored(i, j) }}) {
{% if SPLIT %}
    subgroupMatrixStore<row_major>(&p, (split * params.m + top + below + {{ i }}u * M) * columns4 + (left + right + {{ j }}u * N) / 4u, c{{ i }}_{{ j }}, columns4);
{% else %}
    subgroupMatrixStore<row_major>(&c, {{ place(i, j) }}, c{{ i }}_{{ j }}, params.ldc);
{% endif %}
  }
{% endfor %}{% endfor %}
{% else %}
  let late = numbers[lane];
  let strip = late / SUBGROUP * STRIP;
  let row0 = top + late / SUBGROUP / 2u * HALF_M;
  let column0 = (left + late / SUBGROUP % 2u * HALF_N) / 4u;
{% set items = M * (TILE_N // 8) // SUBGROUP %}
{% for i in range(rows) %}
{% for s in range(items) %}
  let item{{ i }}_{{ s }} = late % SUBGROUP + {{ s }}u * SUBGROUP;
  let row{{ i }}_{{ s }} = row0 + {{ i }}u * M + item{{ i }}_{{ s }} / (HALF_N / 4u);
  let column{{ i }}_{{ s }} = column0 + item{{ i }}_{{ s }} % (HALF_N / 4u);
{% if not SPLIT %}
  let at{{ i }}_{{ s }} = c_start + row{{ i }}_{{ s }} * params.ldc + column{{ i }}_{{ s }};
  let other{{ i }}_{{ s }} = beside(at{{ i }}_{{ s }});
  let of_row{{ i }}_{{ s }} = beside_row(min(row{{ i }}_{{ s }}, params.m - 1u));
{% endif %}
{% endfor %}
{% for j in range(columns) %}
  subgroupMatrixStore<row_major>(&memory, subgroup * STRIP + {{ j }}u * N / 4u, c{{ i }}_{{ j }}, STRIDE_C);
{% endfor %}
  workgroupBarrier();
{% for s in range(items) %}
  if (row{{ i }}_{{ s }} >= own_top && row{{ i }}_{{ s }} < params.m && column{{ i }}_{{ s }} >= own_left / 4u && column{{ i }}_{{ s }} < columns4) {
    let v = bitcast<vec4f>(memory[strip + item{{ i }}_{{ s }} / (HALF_N / 4u) * STRIDE_C + item{{ i }}_{{ s }} % (HALF_N / 4u)]);
{% if SPLIT %}
    store_p((split * params.m + row{{ i }}_{{ s }}) * columns4 + column{{ i }}_{{ s }}, v);
{% else %}
    finish(at{{ i }}_{{ s }}, row{{ i }}_{{ s }}, column{{ i }}_{{ s }}, v, other{{ i }}_{{ s }}, of_row{{ i }}_{{ s }});
{% endif %}
  }
{% endfor %}
  workgroupBarrier();
{% endfor %}
{% endif %}
}
