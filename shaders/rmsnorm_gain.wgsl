// dgain = Σ over rows of dy · x · scale, in two stages with a fixed order.
//
// STAGE "partial": sum [blocks, columns], each row over block_rows rows of x and dy [rows, columns] (strides and offsets in vec4s).
// STAGE "finish": sum [columns] from partial [blocks, columns].   EPILOGUE "accumulate": sum += …
// An invocation owns four columns of a block. Bound by memory.

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let item = workgroup_number(id, count) * LANES + lane;
  var total = vec4f();
{% if STAGE == "partial" %}
  let block = item / params.columns4;
  let column = item % params.columns4;
  if (block >= params.blocks) { return; }
  let last = min((block + 1u) * params.block_rows, params.rows);
  for (var row = block * params.block_rows; row < last; row++) {
    total = fma(load_dy(params.dy_start + row * params.ld_dy + column) * scale[row], load_x(params.x_start + row * params.ldx + column), total);
  }
{% else %}
  if (item >= params.columns4) { return; }
  for (var block = 0u; block < params.blocks; block++) { total += load_partial(block * params.columns4 + item); }
{% endif %}
{% if EPILOGUE == "accumulate" %}
  store_sum(item, load_sum(item) + total);
{% else %}
  store_sum(item, total);
{% endif %}
}
