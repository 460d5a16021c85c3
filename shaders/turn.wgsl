// The transpose of a matrix: y [columns, rows] = x [rows, columns]ᵀ, rows of y padded with zeros to whole fours.
// params: rows, columns; strides ldx and ldy and the offset x_start, in vec4s.
//
// A workgroup turns 128 rows by 32 columns, an invocation 4 × 4 of them in registers. They are exchanged through workgroup memory, so that both reads and
// writes are of neighbours; the vec4s of a row of the result are out of place by xor, for the sake of its banks. Bound by memory.

var<workgroup> tile: array<array<vec4f, 32>, 32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let across = (params.columns + 31u) / 32u;
  let number = workgroup_number(id, count);
  let top = number / across * 128u;
  let left = number % across * 32u;
  // The whole workgroup leaves together, so the barrier below stays uniform.
  if (top >= params.rows) { return; }
  let column4 = lane % 8u;
  let row4 = lane / 8u;
  // What lies beyond the columns is not stored.
  let start = params.x_start + min(left / 4u + column4, (params.columns - 1u) / 4u);
{% for r in range(4) %}
  let row{{ r }} = top + 4u * row4 + {{ r }}u;
  let v{{ r }} = select(vec4f(), load_x(start + min(row{{ r }}, params.rows - 1u) * params.ldx), row{{ r }} < params.rows);
{% endfor %}
{% for c in range(4) %}
  tile[4u * column4 + {{ c }}u][row4 ^ column4] = vec4f(v0[{{ c }}], v1[{{ c }}], v2[{{ c }}], v3[{{ c }}]);
{% endfor %}
  workgroupBarrier();
{% for i in range(4) %}
  {
    let column = lane / 32u + {{ 8 * i }}u;
    let row = lane % 32u;
    if (left + column < params.columns && top + 4u * row < params.rows) {
      store_y((left + column) * params.ldy + top / 4u + row, tile[column][row ^ (column / 4u)]);
    }
  }
{% endfor %}
}
