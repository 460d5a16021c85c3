// y = x · f with dropout's factors f of rows and columns (dropout.wgsl); y may be x itself (IN_PLACE). x, y [rows, 4·columns4]. NUMBERED: numbers [rows] u32 says which
// row of the mask each row takes, otherwise its own.
// An invocation takes a vec4. Bound by memory.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let item = workgroup_number(id, count) * 64u + lane;
  let row = item / params.columns4;
  if (row >= params.rows) { return; }
  let column = 4u * (item % params.columns4);
{% if NUMBERED %}
  let number = numbers[row];
{% else %}
  let number = row;
{% endif %}
  let factors = dropout_factors(vec4u(dropout_row(number)), column + vec4u(0u, 1u, 2u, 3u));
{% if IN_PLACE %}
  store_y(item, load_y(item) * factors);
{% else %}
  store_y(item, load_x(item) * factors);
{% endif %}
}
