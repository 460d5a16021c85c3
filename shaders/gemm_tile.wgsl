{# Which tile of the result a workgroup computes, and over which part of the sum: its first row and column under the given names, `begin` and `end`. Shared by the
   kernels that compute tiles; params as there. #}
{% macro own_tile(top, left) %}
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
  let {{ top }} = (tile / across) * TILE;
  let {{ left }} = (tile % across) * TILE;
  // The whole workgroup leaves together, so the barriers below stay uniform.
  if ({{ top }} >= params.m) { return; }
{% endmacro %}
