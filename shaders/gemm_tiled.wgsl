// C = epilogue(op(A) · op(B)) through tiles in workgroup memory; layouts, params and epilogues as in gemm_direct.wgsl.
//
// A workgroup of 16 × 16 invocations computes a TILE × TILE block of C, each invocation FRAGMENT × FRAGMENT numbers, in steps of 16 along K.
// Both operands are kept K-major (a row of a tile holds TILE numbers of one k), whatever the layout, so the inner loop is the same:
// FRAGMENT² products for 2·FRAGMENT loads from workgroup memory. Bound by those loads and, for small matrices, by the number of tiles.
//
// SPLIT: K is cut into `splits` ranges of `range` (a multiple of 16), each with workgroups of its own, which write p [splits, M, N padded to 4];
// gemm_reduce.wgsl adds them up in order. For few tiles with long sums, such as the gradients of weights.

const TILE4 = TILE / 4u;

var<workgroup> tile_a: array<vec4f, 16u * TILE4>;
var<workgroup> tile_b: array<vec4f, 16u * TILE4>;

{% macro acc(r, c) %}c{{ r }}_{{ c }}{% endmacro %}
{% set quads = FRAGMENT // 4 %}
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
  let x = lane % 16u;
  let y = lane / 16u;
{% for r in range(FRAGMENT) %}{% for c in range(quads) %}
  var {{ acc(r, c) }} = vec4f();
{% endfor %}{% endfor %}

  for (var base = begin; base < end; base += 16u) {
{% for i in range(TILE // 64) %}
    {
      let item = lane + {{ 256 * i }}u;
{% if LAYOUT == "tn" %}
      // Rows of A run along M: a vec4 goes into the tile as it is.
      let k = base + item / TILE4;
      let m4 = top / 4u + item % TILE4;
      tile_a[item] = select(vec4f(), load_a(params.a_start + min(k, params.k - 1u) * params.lda + min(m4, (params.m - 1u) / 4u)), k < params.k);
{% else %}
      // Rows of A run along K: four numbers of one row go to four rows of the tile.
      let row = item / 4u;
      let k4 = base / 4u + item % 4u;
      let v = select(vec4f(), load_a(params.a_start + min(top + row, params.m - 1u) * params.lda + min(k4, (params.k - 1u) / 4u)), 4u * k4 < params.k);
      let at = (item % 4u) * 4u * TILE4 + row / 4u;
{% for j in range(4) %}
      tile_a[at + {{ j }}u * TILE4][row % 4u] = v[{{ j }}];
{% endfor %}
{% endif %}
{% if LAYOUT == "nt" %}
      let column = item / 4u;
      let bk4 = base / 4u + item % 4u;
      let w = select(vec4f(), load_b(params.b_start + min(left + column, params.n - 1u) * params.ldb + min(bk4, (params.k - 1u) / 4u)), 4u * bk4 < params.k);
      let b_at = (item % 4u) * 4u * TILE4 + column / 4u;
{% for j in range(4) %}
      tile_b[b_at + {{ j }}u * TILE4][column % 4u] = w[{{ j }}];
{% endfor %}
{% else %}
      let bk = base + item / TILE4;
      let n4 = left / 4u + item % TILE4;
      tile_b[item] = select(vec4f(), load_b(params.b_start + min(bk, params.k - 1u) * params.ldb + min(n4, (params.n - 1u) / 4u)), bk < params.k);
{% endif %}
    }
{% endfor %}
    workgroupBarrier();
{% for k in range(16) %}
    {
{% for i in range(quads) %}
      let a{{ i }} = tile_a[{{ k }}u * TILE4 + y + {{ 16 * i }}u];
      let b{{ i }} = tile_b[{{ k }}u * TILE4 + x + {{ 16 * i }}u];
{% endfor %}
{% for r in range(FRAGMENT) %}{% for c in range(quads) %}
      {{ acc(r, c) }} = fma(vec4f(a{{ r // 4 }}[{{ r % 4 }}]), b{{ c }}, {{ acc(r, c) }});
{% endfor %}{% endfor %}
    }
{% endfor %}
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
      if (column{{ c }} < columns4) { store_p((split * params.m + row) * columns4 + column{{ c }}, {{ acc(r, c) }}); }
{% else %}
      if (column{{ c }} < columns4) { finish(row, column{{ c }}, {{ acc(r, c) }}); }
{% endif %}
{% endfor %}
    }
  }
{% endfor %}
}
