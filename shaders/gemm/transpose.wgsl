// The transpose of a matrix: y [columns, rows] = x [rows, columns]ᵀ, rows of y padded with zeros to whole eights.
// params: rows, columns; strides ldx and ldy and the offset x_start, in vec4s.
//
// An invocation transposes 8 × 4 numbers in registers; a workgroup's 8 × 8 of them read and write whole sectors of memory. Bound by memory.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let across = (params.columns + 31u) / 32u;
  let tile = workgroup_number(id, count);
  let row = tile / across * 64u + lane / 8u * 8u;
  let column = tile % across * 32u + lane % 8u * 4u;
  if (row >= params.rows || column >= params.columns) { return; }
{% for r in range(8) %}
  let v{{ r }} = select(vec4f(), load_x(params.x_start + min(row + {{ r }}u, params.rows - 1u) * params.ldx + column / 4u), row + {{ r }}u < params.rows);
{% endfor %}
{% for c in range(4) %}
  if (column + {{ c }}u < params.columns) {
    let at = (column + {{ c }}u) * params.ldy + row / 4u;
    store_y(at, vec4f(v0[{{ c }}], v1[{{ c }}], v2[{{ c }}], v3[{{ c }}]));
    // Rows of y are whole eights.
    store_y(at + 1u, vec4f(v4[{{ c }}], v5[{{ c }}], v6[{{ c }}], v7[{{ c }}]));
  }
{% endfor %}
}
