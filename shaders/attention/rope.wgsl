// Rotary embedding: [a; b] becomes [a cos − b sin; b cos + a sin] (INVERSE: with −sin), the halves of each group's columns.
//
// x [rows, 8·half4 columns a group], groups `step` vec4s apart; turns [positions, cosines | sines], one row a position; row r is at
// position r mod length, plus what `position` holds. Strides and offsets in vec4s.
// IN_PLACE: every group of y is rotated where it is. Otherwise y = Σ over groups, in their order.
// An invocation turns four pairs. Bound by memory.

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let item = workgroup_number(id, count) * LANES + lane;
  let i = item % params.half4;
{% if IN_PLACE %}
  let row = item / params.half4 / params.groups;
  let group = item / params.half4 % params.groups;
{% else %}
  let row = item / params.half4;
{% endif %}
  if (row >= params.rows) { return; }
  var at_position = row % params.length;
{% if POSITION %}
  at_position += position[0];
{% endif %}
  let turn = at_position * 2u * params.half4 + i;
  let c = load_turns(turn);
  let s = {% if INVERSE %}-{% endif %}load_turns(turn + params.half4);
{% if IN_PLACE %}
  let at = params.y_start + row * params.ldy + group * params.step + i;
  let a = load_y(at);
  let b = load_y(at + params.half4);
{% else %}
  let at = params.y_start + row * params.ldy + i;
  let source = params.x_start + row * params.ldx + i;
  var a = vec4f();
  var b = vec4f();
  for (var group = 0u; group < params.groups; group++) {
    a += load_x(source + group * params.step);
    b += load_x(source + group * params.step + params.half4);
  }
{% endif %}
  store_y(at, a * c - b * s);
  store_y(at + params.half4, b * c + a * s);
}
