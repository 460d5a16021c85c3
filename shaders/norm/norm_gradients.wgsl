// dgain = Σ over rows of dy · x · scale, in two stages with a fixed order. CENTRED: dgain = Σ dy · (x − mean) · scale, dbias = Σ dy.
//
// STAGE "partial": sum [blocks, columns], each row over block_rows rows of x and dy [rows, columns] (strides and offsets in vec4s);
// CENTRED: shift [blocks, columns] likewise. STAGE "finish": sum [columns] from partial [blocks, columns].
// EPILOGUE "accumulate": sum += …
// An invocation owns four columns of a block, and asks for UNROLL rows before it adds the first. Bound by memory.

{% macro add(at, unroll) %}
{% for u in range(unroll) %}
{% if STAGE == "partial" %}
    let dy{{ u }} = load_dy(params.dy_start + ({{ at }} + {{ u }}u) * params.ld_dy + column);
    let x{{ u }} = load_x(params.x_start + ({{ at }} + {{ u }}u) * params.ldx + column){{ " - mean[" ~ at ~ " + " ~ u ~ "u]" if CENTRED else "" }};
    let scale{{ u }} = scale[{{ at }} + {{ u }}u];
{% else %}
    let part{{ u }} = load_partial(({{ at }} + {{ u }}u) * params.columns4 + item);
{% endif %}
{% endfor %}
{% for u in range(unroll) %}
    total {{ "= fma(dy" ~ u ~ " * scale" ~ u ~ ", x" ~ u ~ ", total)" if STAGE == "partial" else "+= part" ~ u }};
{% if CENTRED %}
    total_shift += dy{{ u }};
{% endif %}
{% endfor %}
{% endmacro %}
{% macro add_all(at, end) %}
  for (; {{ at }} + UNROLL <= {{ end }}; {{ at }} += UNROLL) {
{{ add(at, UNROLL) }}
  }
  for (; {{ at }} < {{ end }}; {{ at }}++) {
{{ add(at, 1) }}
  }
{% endmacro %}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let item = workgroup_number(id, count) * LANES + lane;
  var total = vec4f();
{% if CENTRED %}
  var total_shift = vec4f();
{% endif %}
{% if STAGE == "partial" %}
  let block = item / params.columns4;
  let column = item % params.columns4;
  if (block >= params.blocks) { return; }
  let last = min((block + 1u) * params.block_rows, params.rows);
  var row = block * params.block_rows;
{{ add_all("row", "last") }}
{% else %}
  if (item >= params.columns4) { return; }
  var block = 0u;
{{ add_all("block", "params.blocks") }}
{% endif %}
{% if EPILOGUE == "accumulate" %}
  store_sum(item, load_sum(item) + total);
{% else %}
  store_sum(item, total);
{% endif %}
{% if CENTRED %}
  store_shift(item, total_shift);
{% endif %}
}
