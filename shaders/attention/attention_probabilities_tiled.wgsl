// Exponentials of causal attention's scores through tiles, forward: for keys j and queries i ≥ j
// probabilities[j][i] = exp(scale · k_j q_i − maxima of the tile)    and zeros for later keys of a tile on the diagonal.
//
// DROPOUT: times factors as in attention_forward_direct.wgsl, which the sums leave out.
//
// q, keys [heads·(NOPE+ROPE), tokens]: transposed, so that both operands are K-major, rows `lda` and `ldb` loads apart. probabilities: a square for each pair whose rows are keys and
// whose columns are queries, as the product with the values takes it; rows `ldc` vec4s apart. maxima, sums [pairs, tiles of keys, queries]: of each tile, the
// largest score of a query and the sum of its exponentials, which attention_merge.wgsl makes those of the whole row. Steps as in gemm_steps.wgsl, tiles and
// pairs as in gemm_tile.wgsl ("below", keys and queries exchanged). WIDTH: terms of the sum, a multiple of 2·STEP.
//
// A workgroup computes CHAIN tiles one after the other, and fetches the first step of the next one during the last of its own. The product with the values takes 256
// queries at once, so the part beyond the diagonal in it, a tile beside every other tile on it, becomes zero.

const LOWEST = -3.0e38f;

{# Where the operands of a tile begin. #}
{% macro aim(place) %}
      {
        let sequence = {{ place }}.z / params.heads;
        let head = {{ place }}.z % params.heads;
{{ aim_operand("keys", "a", "params.a_start + sequence * params.a_sequence + head * params.a_head", place ~ ".y * TILE_M") }}
{{ aim_operand("q", "b", "params.b_start + sequence * params.b_sequence + head * params.b_head", place ~ ".x * TILE_N") }}
      }
{% endmacro %}
{# The values that the DOWN invocations of a column exchange take the last rows of the buffers: with 16 terms a step those of the second one, while the next tile's first step is in the first. #}
{% set skipped = 2 * STEP - TILE_M // FRAGMENT_M %}
{% macro own_row(side) %}tile_{{ side }}[({{ skipped }}u + y) / STEP][({{ skipped }}u + y) % STEP]{% endmacro %}
{% macro row_of(side, t) %}tile_{{ side }}[{{ (skipped + t) // STEP }}][{{ (skipped + t) % STEP }}]{% endmacro %}

@compute @workgroup_size({{ invocations }})
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
{{ own_chain() }}
{{ own_fragment() }}
{{ declare_operand("keys", "a") }}
{{ declare_operand("q", "b") }}
{{ aim("place") }}
{{ fetch_both("keys", "q", "0u") }}
{{ put_both("keys", "q", "0") }}
  workgroupBarrier();
  let columns4 = (params.n + 3u) / 4u;
  for (var tile = 1u; tile <= CHAIN; tile++) {
{{ next_in_chain() }}
{{ add_all("keys", "q", "WIDTH", "keys", "q", aim("following"), "more") }}
    let left = place.x * TILE_N;
    let top = place.y * TILE_M;
    let pair = place.z;
    let real = place.w == 0u;
    let c_start = params.c_start + pair / params.heads * params.c_sequence + pair % params.heads * params.c_head;
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
    // The first key of a tile is no query's later one, so the maximum is a real score.
{% for c in range(quads_n) %}
    var most{{ c }} = c0_{{ c }};
{% for r in range(1, FRAGMENT_M) %}
    most{{ c }} = max(most{{ c }}, c{{ r }}_{{ c }});
{% endfor %}
    {{ own_row("a") }}[x + {{ c }}u * ACROSS] = most{{ c }};
{% endfor %}
    workgroupBarrier();
{% for c in range(quads_n) %}
{% for t in range(TILE_M // FRAGMENT_M) %}
    most{{ c }} = max(most{{ c }}, {{ row_of("a", t) }}[x + {{ c }}u * ACROSS]);
{% endfor %}
    var sum{{ c }} = vec4f();
{% for r in range(FRAGMENT_M) %}
    c{{ r }}_{{ c }} = exp(c{{ r }}_{{ c }} - most{{ c }});
    sum{{ c }} += c{{ r }}_{{ c }};
{% endfor %}
    {{ own_row("b") }}[x + {{ c }}u * ACROSS] = sum{{ c }};
{% endfor %}
    workgroupBarrier();
    if (y == 0u && real) {
      let statistic = (pair * down + top / TILE_M) * params.ldc;
{% for c in range(quads_n) %}
      if (column{{ c }} < columns4) {
        var total = {{ row_of("b", 0) }}[x + {{ c }}u * ACROSS];
{% for t in range(1, TILE_M // FRAGMENT_M) %}
        total += {{ row_of("b", t) }}[x + {{ c }}u * ACROSS];
{% endfor %}
        store_maxima(statistic + column{{ c }}, most{{ c }});
        store_sums(statistic + column{{ c }}, total);
      }
{% endfor %}
    }
{% if DROPOUT %}
    let of_pair = params.s_start + pair / params.heads * params.s_sequence + pair % params.heads * params.s_head;
{% for c in range(quads_n) %}
    let start{{ c }} = dropout_rows(of_pair + 4u * column{{ c }} + vec4u(0u, 1u, 2u, 3u));
{% for r in range(FRAGMENT_M) %}
    c{{ r }}_{{ c }} *= dropout_factors(start{{ c }}, vec4u(row{{ r }}));
{% endfor %}{% endfor %}
{% endif %}
{% for r in range(FRAGMENT_M) %}
    if (row{{ r }} < params.m && real) {
{% for c in range(quads_n) %}
      if (column{{ c }} < columns4) { store_probabilities(c_start + row{{ r }} * params.ldc + column{{ c }}, c{{ r }}_{{ c }}); }
{% endfor %}
      if (top == left && top / TILE_M % 2u == 1u) {
{% for c in range(quads_n) %}
        store_probabilities(c_start + row{{ r }} * params.ldc + column{{ c }} - TILE_N / 4u, vec4f());
{% endfor %}
      }
    }
{% endfor %}
    if (!more) { break; }
    // All have read what was exchanged before the next step takes its place.
    workgroupBarrier();
    place = following;
{{ clear_sums() }}
  }
}
