// Probabilities and score gradients of causal attention on matrix units, for the products of attention_stored.ts: for queries i and keys j ≤ i
// probabilities = exp(scale · q kᵀ − log_sum)    score_gradients = scale · probabilities ∘ (d_o vᵀ − delta)    and zeros for later keys of a block on the diagonal.
//
// DROPOUT, with factors f as in attention_forward_direct.wgsl: f times the probabilities, and f ∘ (d_o vᵀ) in the score gradients.
//
// q [T, heads·(NOPE+ROPE)], kv [T, heads·(NOPE+V)], kr [T, ROPE], d_o [T, heads·V]: f16, read as bits; tiles as in attention_tiles.wgsl. log_sum, delta [heads, T]. probabilities, score_gradients: a square of
// length × length f16 for each pair, rows `width` eights apart, written as bits. Pair p: head first_head + p % pair_heads of sequence first_sequence + p / pair_heads.
//
// A workgroup of four subgroups owns 64 queries of a head, a subgroup 16 of them as matrices in registers with their d_o. Keys and values come in tiles of 32
// rows, the next from memory while one is used. Each product over a width leaves the units through workgroup memory, where an invocation takes eight columns
// of two rows. Bound by the wait for each other at barriers, which other workgroups fill, and by workgroup memory.

const OWN = 64u;
// Rows of scores are padded by two vec4s: four rows of eight numbers are stored at a time, on banks of their own. Two rows of four vec4s are loaded at a time, of which
// odd rows take the second, fourth, sixth and eighth first.
const STRIDE = TILE / 4u + 2u;

var<workgroup> keys: array<vec4u, TILE * STRIDE_K>;
var<workgroup> values: array<vec4u, TILE * STRIDE_V>;
var<workgroup> scores: array<vec4f, OWN * STRIDE>;

// Eight columns as halves, of which odd rows have the last four first.
fn bits(first: vec4f, second: vec4f, odd: u32) -> vec4u {
  let a = bitcast<vec2u>(vec4<f16>(first));
  let b = bitcast<vec2u>(vec4<f16>(second));
  return select(vec4u(a, b), vec4u(b, a), odd == 1u);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let work = workgroup_number(id, count);
  let pair = work % params.pairs;
  // The whole workgroup leaves together, so the barriers below stay uniform.
  if (work / params.pairs >= params.blocks) { return; }
  // The rows with the most work start first.
  let top = (params.blocks - 1u - work / params.pairs) * OWN;
  let head = params.first_head + pair % params.pair_heads;
  let first = (params.first_sequence + pair / params.pair_heads) * params.length;
  let strip = lane / 32u * M;
{% for d in range(depth) %}
  let q{{ d }} = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&q, ((first + top + strip) * params.heads + head) * QK8 + {{ 2 * d }}u, params.heads * QK8);
{% endfor %}
{% for d in range(wide) %}
  let o{{ d }} = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&d_o, ((first + top + strip) * params.heads + head) * V8 + {{ 2 * d }}u, params.heads * V8);
{% endfor %}
  // This invocation's rows are eight apart, and its columns eight in a row.
  let row = strip + lane % 32u / 4u;
  let part = lane % 4u;
  let odd = row % 2u;
  let result = (pair * params.length + top + row) * params.width + part;
{% for n in range(2) %}
  let sum{{ n }} = log_sum[head * params.tokens + first + top + row + {{ 8 * n }}u];
  let delta{{ n }} = delta[head * params.tokens + first + top + row + {{ 8 * n }}u];
{% if DROPOUT %}
  let start{{ n }} = vec4u(dropout_row(head * params.tokens + first + top + row + {{ 8 * n }}u));
{% endif %}
{% endfor %}
{{ declare_keys() }}
{{ fetch_keys("0u") }}
{{ fetch_values("0u") }}
{{ put_keys("keys") }}
{{ put_values("values") }}
  let end = top + OWN;
  for (var j = 0u; j < end; j += TILE) {
    workgroupBarrier();
    let ahead = min(j + TILE, end - TILE);
{{ fetch_keys("ahead") }}
{{ fetch_values("ahead") }}
    {
{{ multiply_tile("q", depth, "keys", "STRIDE_K") }}
{{ store_product("scores", "STRIDE") }}
    }
    workgroupBarrier();
    let column = j + 8u * part + vec4u(0u, 1u, 2u, 3u);
    let column_a = column + 4u * odd;
    let column_b = column + 4u - 4u * odd;
{% for n in range(2) %}
    let at_a{{ n }} = (row + {{ 8 * n }}u) * STRIDE + 2u * part + odd;
    let at_b{{ n }} = (row + {{ 8 * n }}u) * STRIDE + 2u * part + 1u - odd;
    let p_a{{ n }} = select(vec4f(), exp(scores[at_a{{ n }}] * params.scale - sum{{ n }}), column_a <= vec4u(top + row + {{ 8 * n }}u));
    let p_b{{ n }} = select(vec4f(), exp(scores[at_b{{ n }}] * params.scale - sum{{ n }}), column_b <= vec4u(top + row + {{ 8 * n }}u));
{% if DROPOUT %}
    let f_a{{ n }} = dropout_factors(start{{ n }}, column_a);
    let f_b{{ n }} = dropout_factors(start{{ n }}, column_b);
{% endif %}
    probabilities[result + {{ 8 * n }}u * params.width + j / 8u] = bits(p_a{{ n }}{{ " * f_a" ~ n if DROPOUT else "" }}, p_b{{ n }}{{ " * f_b" ~ n if DROPOUT else "" }}, odd);
{% endfor %}
    {
{{ multiply_tile("o", wide, "values", "STRIDE_V") }}
      workgroupBarrier();
{{ store_product("scores", "STRIDE") }}
    }
    workgroupBarrier();
{% for n in range(2) %}
    score_gradients[result + {{ 8 * n }}u * params.width + j / 8u] = bits(
      params.scale * p_a{{ n }} * ({{ "f_a" ~ n ~ " * " if DROPOUT else "" }}scores[at_a{{ n }}] - delta{{ n }}),
      params.scale * p_b{{ n }} * ({{ "f_b" ~ n ~ " * " if DROPOUT else "" }}scores[at_b{{ n }}] - delta{{ n }}), odd);
{% endfor %}
{{ put_keys("keys") }}
{{ put_values("values") }}
  }
  // Products read squares of 128: the tiles in them that are beyond the diagonal as a whole are zeros without a product.
  for (var j = end; j < (top / 128u + 1u) * 128u; j += TILE) {
{% for n in range(2) %}
    probabilities[result + {{ 8 * n }}u * params.width + j / 8u] = vec4u();
    score_gradients[result + {{ 8 * n }}u * params.width + j / 8u] = vec4u();
{% endfor %}
  }
}
