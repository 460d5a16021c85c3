{# Which tile of the result a workgroup computes, and over which part of the sum: its first row and column under the given names, `begin` and `end`, and where the
   matrices start. Shared by the kernels that compute tiles; params as there.

   PAIRED: there are `params.pairs` products of one shape, pair p of them of head p % heads and sequence p / heads, whose matrices and `statistics` lie so many
   entries further on for each. Attention is causal, which leaves
     "below": the tiles of the result on the diagonal and below it, when columns are keys and rows are queries;
     "until": terms up to the tile's own rows;      "from": terms from the tile's own rows on. Those with the most terms start first.

   GROUPED: rows belong to groups, each of whole tiles (model/ops/gemm/gemm_grouped.ts). Groups `params.first` to `params.first + params.groups` are computed,
   whose matrices lie `params.stride` entries apart.
     "rows": a tile of rows of A and C multiplies with its group's B; `of_tile` has the group of each tile, and a number beyond all groups where it has none.
     "sums": each group has a C, whose sum goes over the group's rows, `begin_of` [groups + 1] to the next one's. #}
{% if PAIRED %}
// Where the own pair's sums of rows begin, for the epilogue.
var<private> statistics: u32;
{% endif %}
{% if PAIRED == "below" %}
// Tiles on the diagonal and below it, those of each pair one after the other, `down` of them on its diagonal: row, column and pair of one, and 1 where it is none.
fn tile_below(number: u32, down: u32) -> vec4u {
  // The tiles of the first row and of the last fill a row and one tile more, and so do those of the second and the last but one.
  let folded = (down + 1u) / 2u * (down + 1u);
  let fold = number % folded / (down + 1u);
  let along = number % folded % (down + 1u);
  let low = along + fold < down;
  // In the middle a row would meet itself.
  let none = !low && 2u * fold + 1u == down;
  return vec4u(select(fold, down - 1u - fold, low), select(along + fold - down, along, low), number / folded, u32(none));
}
{# The first of the CHAIN tiles that a workgroup computes one after the other, and in the loop over them, `tile` from 1 to CHAIN, the one after the present one. #}
{% macro own_chain() %}
  let down = (params.m + TILE_M - 1u) / TILE_M;
  let number = workgroup_number(id, count) * CHAIN;
  var place = tile_below(number, down);
  // The whole workgroup leaves together, so the barriers below stay uniform.
  if (place.z >= params.pairs) { return; }
{% endmacro %}
{% macro next_in_chain() %}
    let following = tile_below(number + tile, down);
    let more = tile < CHAIN && following.z < params.pairs;
{% endmacro %}
{% endif %}
{% macro own_tile(top, left) %}
  let across = (params.n + TILE_N - 1u) / TILE_N;
  let down = (params.m + TILE_M - 1u) / TILE_M;
{% if PAIRED %}
  let number = workgroup_number(id, count);
{% if PAIRED == "below" %}
  let place = tile_below(number, down);
  let pair = place.z;
  let {{ top }} = place.x * TILE_M;
  let {{ left }} = place.y * TILE_N;
  let begin = 0u;
  let end = params.k;
  if (pair >= params.pairs || place.w == 1u) { return; }
{% else %}
  let pair = number % params.pairs;
  let tile = number / params.pairs;
  if (tile >= across * down) { return; }
  let {{ left }} = tile % across * TILE_N;
{% if PAIRED == "until" %}
  let {{ top }} = (down - 1u - tile / across) * TILE_M;
  let begin = 0u;
  let end = min(params.k, {{ top }} + TILE_M);
{% else %}
  let {{ top }} = tile / across * TILE_M;
  let begin = {{ top }};
  let end = params.k;
{% endif %}
{% endif %}
  let head = pair % params.heads;
  let sequence = pair / params.heads;
  let a_start = params.a_start + sequence * params.a_sequence + head * params.a_head;
  let b_start = params.b_start + sequence * params.b_sequence + head * params.b_head;
  let c_start = params.c_start + sequence * params.c_sequence + head * params.c_head;
  statistics = params.s_start + sequence * params.s_sequence + head * params.s_head;
{% else %}
{% if SPLIT %}
  let number = workgroup_number(id, count);
  let tiles = across * down;
  let split = number / tiles;
  if (split >= params.splits) { return; }
  let tile = number % tiles;
  let begin = split * params.range;
  let end = min(params.k, begin + params.range);
{% elif GROUPED == "sums" %}
  let number = workgroup_number(id, count);
  let tiles = across * down;
  let group = number / tiles;
  if (group >= params.groups) { return; }
  let tile = number % tiles;
  let last = begin_of[params.first + group + 1u];
  // A group without rows sums nothing, and reads nothing beyond the last row.
  let filled = last > begin_of[params.first + group];
  let begin = select(0u, begin_of[params.first + group], filled);
  let end = select(0u, last, filled);
{% else %}
  let tile = workgroup_number(id, count);
  let begin = 0u;
  let end = params.k;
{% endif %}
  // The whole workgroup leaves together, so the barriers below stay uniform.
  if (tile >= across * down) { return; }
  // Eight rows of tiles at a time, column by column: what neighbours read together stays in the cache.
  let band = tile / (8u * across);
  let bands = min(8u, down - 8u * band);
  let within = tile % (8u * across);
  let {{ top }} = (8u * band + within % bands) * TILE_M;
  let {{ left }} = within / bands * TILE_N;
  let a_start = params.a_start;
{% if GROUPED == "rows" %}
  let group = of_tile[{{ top }} / TILE_M] - params.first;
  if (group >= params.groups) { return; }
  let b_start = params.b_start + group * params.stride;
{% else %}
  let b_start = params.b_start;
{% endif %}
{% if GROUPED == "sums" %}
  let c_start = params.c_start + group * params.stride;
{% else %}
  let c_start = params.c_start;
{% endif %}
{% endif %}
{% endmacro %}
