// y = Σ over rows of x, in two stages with a fixed order: the gradient of a bias.
//
// STAGE "partial": y [blocks, 4·columns4], each row over block_rows rows of x [rows, 4·columns4]. STAGE "finish": y [4·columns4] from x [blocks, 4·columns4]; columns from
// held_first to held_end are zero where, of `held_step` columns in a row, they come after the first held_free. EPILOGUE "accumulate": y += …
// An invocation owns four columns of a block, and asks for UNROLL rows before it adds the first. Bound by memory.

{% macro add(unroll) %}
{% for u in range(unroll) %}
    let x{{ u }} = load_x((row + {{ u }}u) * params.columns4 + column);
{% endfor %}
{% for u in range(unroll) %}
    total += x{{ u }};
{% endfor %}
{% endmacro %}
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let item = workgroup_number(id, count) * LANES + lane;
  let column = item % params.columns4;
  if (item / params.columns4 >= params.blocks) { return; }
  var row = item / params.columns4 * params.block_rows;
  let last = min(row + params.block_rows, params.rows);
  var total = vec4f();
  for (; row + UNROLL <= last; row += UNROLL) {
{{ add(UNROLL) }}
  }
  for (; row < last; row++) {
{{ add(1) }}
  }
{% if STAGE == "finish" %}
  let at = 4u * column + vec4u(0u, 1u, 2u, 3u);
  let inside = (at >= vec4u(params.held_first)) & (at < vec4u(params.held_end));
  total = select(total, vec4f(), inside & ((at - params.held_first) % params.held_step >= vec4u(params.held_free)));
{% endif %}
{% if EPILOGUE == "accumulate" %}
  store_y(item, load_y(item) + total);
{% else %}
  store_y(item, total);
{% endif %}
}
