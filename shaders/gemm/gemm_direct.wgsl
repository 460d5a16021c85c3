// C = epilogue(op(A) · op(B)) without workgroup memory, for devices whose workgroup memory is no faster than the rest
// (software adapters) and for products too small to fill tiles.
//
// LAYOUT "nn": A [M, K], B [K, N]    "nt": A [M, K], B [N, K]    "tn": A [K, M], B [K, N].    C [M, N].
// params: m, n, k; strides lda, ldb, ldc and offsets a_start, b_start, c_start of the matrices, in vec4s.
// Columns that pad a row of A beyond k (nn, nt) must be zero; columns that pad a row of C are written as zero.
// EPILOGUE "none": C = P    "add": C = P + E    "accumulate": C += P    "gelu": C = gelu(P)    "gelu_backward": C *= gelu'(P),
// with E [M, N] laid out as C.
//
// GROUPED as in gemm_tile.wgsl, with tiles of ROWS rows. "sums": the terms from params.range_begin to params.range_end alone.
//
// COMPRESSED ("nt" alone): B are experts' compressed weights, as in gemm_tiled.wgsl, four inputs at a time.
//
// An invocation computes ROWS × 4·COLUMNS of C in registers. Bound by arithmetic: ROWS·4·COLUMNS products for every
// ROWS + 4·COLUMNS loaded numbers.

{% macro acc(r, c) %}c{{ r }}_{{ c }}{% endmacro %}
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let across = (params.n + {{ 4 * COLUMNS - 1 }}u) / {{ 4 * COLUMNS }}u;
{% if GROUPED == "sums" %}
  let number = workgroup_number(id, count) * WORKGROUP + lane;
  let tiles = (params.m + ROWS - 1u) / ROWS * across;
  let group = number / tiles;
  if (group >= params.groups) { return; }
  let tile = number % tiles;
  let begin = max(params.range_begin, begin_of[params.first + group]);
  let end = min(params.range_end, begin_of[params.first + group + 1u]);
  let c_start = params.c_start + group * params.stride;
{% else %}
  let tile = workgroup_number(id, count) * WORKGROUP + lane;
  let begin = 0u;
  let end = params.k;
  let c_start = params.c_start;
{% endif %}
  let row = (tile / across) * ROWS;
  let column = (tile % across) * COLUMNS;
  if (row >= params.m) { return; }
{% if GROUPED == "rows" %}
  let group = of_tile[row / ROWS] - params.first;
  if (group >= params.groups) { return; }
  let b_start = params.b_start + group * params.stride;
{% else %}
  let b_start = params.b_start;
{% endif %}
  let columns4 = (params.n + 3u) / 4u;
{% for r in range(ROWS) %}
  let row{{ r }} = min(row + {{ r }}u, params.m - 1u);
{% for c in range(COLUMNS) %}
  var {{ acc(r, c) }} = vec4f();
{% endfor %}
{% endfor %}
{% for c in range(COLUMNS) %}
  let column{{ c }} = min(column + {{ c }}u, columns4 - 1u);
{% endfor %}

{% if LAYOUT == "tn" %}
{% for i in range(ROWS // 4) %}
  let a_at{{ i }} = params.a_start + min(row / 4u + {{ i }}u, (params.m - 1u) / 4u);
{% endfor %}
  for (var k = begin; k < end; k++) {
{% for i in range(ROWS // 4) %}
    let a{{ i }} = load_a(a_at{{ i }} + k * params.lda);
{% endfor %}
{% for c in range(COLUMNS) %}
    let b{{ c }} = load_b(b_start + k * params.ldb + column{{ c }});
{% endfor %}
{% for r in range(ROWS) %}
{% for c in range(COLUMNS) %}
    {{ acc(r, c) }} = fma(vec4f(a{{ r // 4 }}[{{ r % 4 }}]), b{{ c }}, {{ acc(r, c) }});
{% endfor %}
{% endfor %}
  }
{% else %}
{% for r in range(ROWS) %}
  let a_at{{ r }} = params.a_start + row{{ r }} * params.lda;
{% endfor %}
{% if COMPRESSED %}
{% for c in range(4 * COLUMNS) %}
  let output{{ c }} = min(column * 4u + {{ c }}u, params.n - 1u);
  let grid{{ c }} = level_grid(output{{ c }});
{% endfor %}
{% elif LAYOUT == "nt" %}
{% for c in range(4 * COLUMNS) %}
  let b_at{{ c }} = b_start + min(column * 4u + {{ c }}u, params.n - 1u) * params.ldb;
{% endfor %}
{% endif %}
  for (var k = 0u; k < (params.k + 3u) / 4u; k++) {
{% if LAYOUT == "nn" %}
{% for i in range(4) %}
    let b_row{{ i }} = b_start + min(4u * k + {{ i }}u, params.k - 1u) * params.ldb;
{% for c in range(COLUMNS) %}
    let b{{ i }}_{{ c }} = load_b(b_row{{ i }} + column{{ c }});
{% endfor %}
{% endfor %}
{% else %}
{% for c in range(4 * COLUMNS) %}
    let b{{ c }} = {{ "unpack(take(group, b_start, output" ~ c ~ ", k), grid" ~ c ~ ").w0" if COMPRESSED else "load_b(b_at" ~ c ~ " + k)" }};
{% endfor %}
{% endif %}
{% for r in range(ROWS) %}
    let a{{ r }} = load_a(a_at{{ r }} + k);
{% for c in range(COLUMNS) %}
{% if LAYOUT == "nn" %}
    {{ acc(r, c) }} = fma(vec4f(a{{ r }}.x), b0_{{ c }}, fma(vec4f(a{{ r }}.y), b1_{{ c }}, fma(vec4f(a{{ r }}.z), b2_{{ c }}, fma(vec4f(a{{ r }}.w), b3_{{ c }}, {{ acc(r, c) }}))));
{% else %}
    {{ acc(r, c) }} += vec4f(dot(a{{ r }}, b{{ 4 * c }}), dot(a{{ r }}, b{{ 4 * c + 1 }}), dot(a{{ r }}, b{{ 4 * c + 2 }}), dot(a{{ r }}, b{{ 4 * c + 3 }}));
{% endif %}
{% endfor %}
{% endfor %}
  }
{% endif %}

{% for r in range(ROWS) %}
  if (row + {{ r }}u < params.m) {
{% for c in range(COLUMNS) %}
    if (column + {{ c }}u < columns4) {
      let at = c_start + (row + {{ r }}u) * params.ldc + column + {{ c }}u;
      finish(at, row + {{ r }}u, column + {{ c }}u, {{ acc(r, c) }}, beside(at), 0.0);
    }
{% endfor %}
  }
{% endfor %}
}
