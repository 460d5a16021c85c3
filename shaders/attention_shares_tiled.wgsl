// Exponentials of causal attention's scores through tiles, forward: for keys j and queries i ≥ j
// shares[j][i] = exp(scale · k_j q_i − maxima of the tile)    and zeros for later keys of a tile on the diagonal.
//
// q, keys [heads·(NOPE+ROPE), tokens]: turned, so that both operands are K-major, rows `lda` and `ldb` loads apart. shares: a square for each pair whose rows are keys and
// whose columns are queries, as the product with the values takes it; rows `ldc` vec4s apart. maxima, sums [pairs, tiles of keys, queries]: of each tile, the
// largest score of a query and the sum of its exponentials, which attention_merge.wgsl makes those of the whole row. Steps as in gemm_steps.wgsl, tiles and
// pairs as in gemm_tile.wgsl ("below", keys and queries exchanged). WIDTH: terms of the sum, a multiple of 2·STEP.
//
// The product with the values takes 256 queries at once: what is beyond the diagonal in that, a tile beside every other tile on it, becomes zero.

const LOWEST = -3.0e38f;

@compute @workgroup_size({{ invocations }})
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
{{ own_tile("left", "top") }}
{{ own_fragment() }}
  let keys_start = a_start;
  let q_start = b_start;
{{ begin_operand("keys", "a", "top") }}
{{ begin_operand("q", "b", "left") }}
{{ fetch_both("keys", "q", "0u") }}
{{ put_both("keys", "q", "0") }}
  workgroupBarrier();
{{ add_all("keys", "q", "WIDTH") }}

  let columns4 = (params.n + 3u) / 4u;
{% for c in range(quads_n) %}
  let column{{ c }} = left / 4u + x + {{ c }}u * ACROSS;
{% endfor %}
{% for r in range(FRAGMENT_M) %}
  let row{{ r }} = top + 4u * y + {{ r // 4 }}u * 4u * DOWN + {{ r % 4 }}u;
{% for c in range(quads_n) %}
  c{{ r }}_{{ c }} *= params.scale;
{% endfor %}{% endfor %}
  if (top == left) {
{% for r in range(FRAGMENT_M) %}{% for c in range(quads_n) %}
    c{{ r }}_{{ c }} = select(vec4f(LOWEST), c{{ r }}_{{ c }}, vec4u(row{{ r }}) <= vec4u(0u, 1u, 2u, 3u) + 4u * column{{ c }});
{% endfor %}{% endfor %}
  }
  // The first key of a tile is no query's later one, so the maximum is a real score. DOWN invocations share a column.
{% for c in range(quads_n) %}
  var most{{ c }} = c0_{{ c }};
{% for r in range(1, FRAGMENT_M) %}
  most{{ c }} = max(most{{ c }}, c{{ r }}_{{ c }});
{% endfor %}
  tile_a[y / STEP][y % STEP][x + {{ c }}u * ACROSS] = most{{ c }};
{% endfor %}
  workgroupBarrier();
{% for c in range(quads_n) %}
{% for t in range(TILE_M // FRAGMENT_M) %}
  most{{ c }} = max(most{{ c }}, tile_a[{{ t // STEP }}][{{ t % STEP }}][x + {{ c }}u * ACROSS]);
{% endfor %}
  var sum{{ c }} = vec4f();
{% for r in range(FRAGMENT_M) %}
  c{{ r }}_{{ c }} = exp(c{{ r }}_{{ c }} - most{{ c }});
  sum{{ c }} += c{{ r }}_{{ c }};
{% endfor %}
  tile_b[y / STEP][y % STEP][x + {{ c }}u * ACROSS] = sum{{ c }};
{% endfor %}
  workgroupBarrier();
  if (y == 0u) {
    let statistic = (pair * down + top / TILE_M) * params.ldc;
{% for c in range(quads_n) %}
    if (column{{ c }} < columns4) {
      var total = tile_b[0][0][x + {{ c }}u * ACROSS];
{% for t in range(1, TILE_M // FRAGMENT_M) %}
      total += tile_b[{{ t // STEP }}][{{ t % STEP }}][x + {{ c }}u * ACROSS];
{% endfor %}
      store_maxima(statistic + column{{ c }}, most{{ c }});
      store_sums(statistic + column{{ c }}, total);
    }
{% endfor %}
  }
{% for r in range(FRAGMENT_M) %}
  if (row{{ r }} < params.m) {
{% for c in range(quads_n) %}
    if (column{{ c }} < columns4) { store_shares(c_start + row{{ r }} * params.ldc + column{{ c }}, c{{ r }}_{{ c }}); }
{% endfor %}
    if (top == left && top / TILE_M % 2u == 1u) {
{% for c in range(quads_n) %}
      store_shares(c_start + row{{ r }} * params.ldc + column{{ c }} - TILE_N / 4u, vec4f());
{% endfor %}
    }
  }
{% endfor %}
}
