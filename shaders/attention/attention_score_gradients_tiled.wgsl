// Probabilities and score gradients of causal attention through tiles, for the products of attention_stored.ts: for queries i and keys j ≤ i
// probabilities = exp(scale · q kᵀ − log_sum)    score_gradients = scale · probabilities ∘ (d_o vᵀ − delta)    and zeros for later keys of a tile on the diagonal.
//
// DROPOUT, with factors f as in attention_forward_direct.wgsl: f times the probabilities in the end, and f ∘ (d_o vᵀ) in the score gradients.
//
// q, keys [heads·(NOPE+ROPE), tokens], kv [heads·(NOPE+V), tokens], d_o [heads·V, tokens]: transposed, so that every operand is K-major, their rows `lda` and `ldb` loads apart.
// log_sum, delta [heads, T]. probabilities, score_gradients: squares of length × length for each pair, rows `ldc` vec4s apart. Steps as in gemm_steps.wgsl, tiles and pairs as
// in gemm_tile.wgsl ("below"). WIDTH, VALUES: terms of the two sums, multiples of 2·STEP.
//
// A workgroup computes CHAIN tiles one after the other, of each two products with one set of sums: the probabilities go to memory between them and are read again at the
// end, since registers hold no second set. The next operands are fetched during the last step of each product. Products over these squares take 256 rows
// at once, so the part beyond the diagonal in them, a tile of probabilities beside every other tile on it, becomes zero.

{# Where the operands of a tile's two products begin. #}
{% macro aim_scores(place) %}
      {
        let sequence = {{ place }}.z / params.heads;
        let head = {{ place }}.z % params.heads;
{{ aim_operand("q", "a", "params.a_start + sequence * params.a_sequence + head * params.a_head", place ~ ".x * TILE_M") }}
{{ aim_operand("keys", "b", "params.b_start + sequence * params.b_sequence + head * params.b_head", place ~ ".y * TILE_N") }}
      }
{% endmacro %}
{% macro aim_score_gradients() %}
{{ aim_operand("d_o", "a", "params.d_o_start + sequence * params.a_sequence + head * params.d_o_head", "top") }}
{{ aim_operand("kv", "b", "params.kv_start + sequence * params.a_sequence + head * params.kv_head", "left") }}
{% endmacro %}
@compute @workgroup_size({{ invocations }})
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
{{ own_chain() }}
{{ own_fragment() }}
{{ declare_operand("q", "a") }}
{{ declare_operand("keys", "b") }}
{{ declare_operand("d_o", "a") }}
{{ declare_operand("kv", "b") }}
{{ aim_scores("place") }}
{{ fetch_both("q", "keys", "0u") }}
{{ put_both("q", "keys", "0") }}
  workgroupBarrier();
  let columns4 = (params.n + 3u) / 4u;
  for (var tile = 1u; tile <= CHAIN; tile++) {
{{ next_in_chain() }}
    let top = place.x * TILE_M;
    let left = place.y * TILE_N;
    let sequence = place.z / params.heads;
    let head = place.z % params.heads;
    let real = place.w == 0u;
    let c_start = params.c_start + sequence * params.c_sequence + head * params.c_head;
    let statistics = params.s_start + sequence * params.s_sequence + head * params.s_head;
{{ add_all("q", "keys", "WIDTH", "d_o", "kv", aim_score_gradients(), "true") }}
{% for i in range(quads_m) %}
    let row{{ i }} = top + 4u * y + {{ i }}u * 4u * DOWN;
{% for r in range(4) %}
    {
      let row = row{{ i }} + {{ r }}u;
      if (row < params.m && real) {
        let of_row = log_sum[statistics + row];
{% for c in range(quads_n) %}
        let column{{ c }} = left / 4u + x + {{ c }}u * ACROSS;
        let probability{{ c }} = exp(c{{ 4 * i + r }}_{{ c }} * params.scale - of_row);
        if (column{{ c }} < columns4) {
          store_probabilities(c_start + row * params.ldc + column{{ c }}, select(vec4f(), probability{{ c }}, vec4u(0u, 1u, 2u, 3u) + 4u * column{{ c }} <= vec4u(row)));
        }
{% endfor %}
        if (top == left && top / TILE_M % 2u == 0u) {
{% for c in range(quads_n) %}
          if (column{{ c }} + TILE_N / 4u < columns4) { store_probabilities(c_start + row * params.ldc + column{{ c }} + TILE_N / 4u, vec4f()); }
{% endfor %}
        }
      }
    }
{% endfor %}
{% endfor %}
{{ clear_sums() }}
{{ add_all("d_o", "kv", "VALUES", "q", "keys", aim_scores("following"), "more") }}
{% for i in range(quads_m) %}
    // Four rows at a time: no load overtakes a store.
    {
{% for r in range(4) %}
      let of_row{{ r }} = delta[statistics + min(row{{ i }} + {{ r }}u, params.m - 1u)];
{% for c in range(quads_n) %}
      let at{{ r }}_{{ c }} = c_start + (row{{ i }} + {{ r }}u) * params.ldc + left / 4u + x + {{ c }}u * ACROSS;
      let probability{{ r }}_{{ c }} = load_probabilities(at{{ r }}_{{ c }});
{% endfor %}
{% endfor %}
{% for r in range(4) %}{% for c in range(quads_n) %}
      if (row{{ i }} + {{ r }}u < params.m && left / 4u + x + {{ c }}u * ACROSS < columns4 && real) {
{% if DROPOUT %}
        let f = dropout_factors(vec4u(dropout_row(statistics + row{{ i }} + {{ r }}u)), left + 4u * x + {{ 4 * c }}u * ACROSS + vec4u(0u, 1u, 2u, 3u));
        store_probabilities(at{{ r }}_{{ c }}, f * probability{{ r }}_{{ c }});
{% endif %}
        store_score_gradients(at{{ r }}_{{ c }}, params.scale * probability{{ r }}_{{ c }} * ({{ "f * " if DROPOUT else "" }}c{{ 4 * i + r }}_{{ c }} - of_row{{ r }}));
      }
{% endfor %}{% endfor %}
    }
{% endfor %}
    if (!more) { break; }
    place = following;
{{ clear_sums() }}
  }
}
