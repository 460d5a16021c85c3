// The second stages of several norms' gradients: sum_i = Σ over blocks of partial_i, for processors that play GPU, where a dispatch takes longer than such a sum.
// EPILOGUE "none": sum_i = …   "accumulate": sum_i += …
//
// partial_i [blocks_i, columns_i], sum_i [columns_i] for i = 0 … COUNT − 1; columns in vec4s. params.groups workgroups share a sum, an invocation does one vec4 of it. Blocks are
// added in their order, as in norm_gradients.wgsl. Bound by latency.

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let number = workgroup_number(id, count);
  let own = number / params.groups;
  let column = number % params.groups * LANES + lane;
{% for i in range(COUNT) %}
  if (own == {{ i }}u && column < params.columns_{{ i }}) {
    var total = vec4f();
    for (var block = 0u; block < params.blocks_{{ i }}; block++) { total += load_partial_{{ i }}(block * params.columns_{{ i }} + column); }
{% if EPILOGUE == "accumulate" %}
    total += load_sum_{{ i }}(column);
{% endif %}
    store_sum_{{ i }}(column, total);
  }
{% endfor %}
}
