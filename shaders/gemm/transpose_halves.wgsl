// The transpose of a matrix of halves, as bits: y [columns, rows] = x [rows, columns]ᵀ, rows of y padded with zeros to whole eights.
// params: rows, columns; strides ldx and ldy and the offset x_start, in eights.
//
// An invocation transposes 8 × 8 numbers in registers. A workgroup's 16 × 4 of them read 64 bytes of each row and write 256 of each column. Bound by memory.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let across = (params.columns + 31u) / 32u;
  let tile = workgroup_number(id, count);
  let row = tile / across * 128u + lane / 4u * 8u;
  let column = tile % across * 32u + lane % 4u * 8u;
  if (row >= params.rows || column >= params.columns) { return; }
{% for r in range(8) %}
  let v{{ r }} = select(vec4u(), x[params.x_start + min(row + {{ r }}u, params.rows - 1u) * params.ldx + column / 8u], row + {{ r }}u < params.rows);
{% endfor %}
{% for c in range(8) %}
  if (column + {{ c }}u < params.columns) {
{% set word = c // 2 %}
    y[(column + {{ c }}u) * params.ldy + row / 8u] = vec4u({% for r in range(0, 8, 2) %}{% if c % 2 %}(v{{ r }}[{{ word }}] >> 16u) | (v{{ r + 1 }}[{{ word }}] & 0xffff0000u){% else %}(v{{ r }}[{{ word }}] & 0xffffu) | (v{{ r + 1 }}[{{ word }}] << 16u){% endif %}{{ ", " if r < 6 }}{% endfor %});
  }
{% endfor %}
}
