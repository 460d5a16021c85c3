// Rotary embedding: [a; b] becomes [a cos − b sin; b cos + a sin] (INVERSE: with −sin), the halves of each group's columns.
//
// x [rows, columns of a group], groups `step` vec4s apart; turns [positions, cosines | sines], one row a position; row r is at
// position r mod length, plus what `position` holds for its sequence, r / length. Strides and offsets in vec4s.
// IN_PLACE: every group of y is rotated where it is. Otherwise y = Σ over groups, in their order.
// Halves of 4·half4 columns: an invocation turns four pairs. Other halves, WIDTH columns a group: an invocation turns a whole group, since
// its pairs lie across vec4s; columns beyond the group's in its last vec4 stay as they are. Bound by memory.
{% set parts = "1u" if WIDTH else "params.half4" %}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let item = workgroup_number(id, count) * LANES + lane;
  let i = item % {{ parts }};
{% if IN_PLACE %}
  let row = item / {{ parts }} / params.groups;
  let group = item / {{ parts }} % params.groups;
{% else %}
  let row = item / {{ parts }};
{% endif %}
  if (row >= params.rows) { return; }
  var at_position = row % params.length;
{% if POSITION %}
  at_position += position[row / params.length];
{% endif %}
{% if IN_PLACE %}
  let at = params.y_start + row * params.ldy + group * params.step + i;
{% else %}
  let at = params.y_start + row * params.ldy + i;
  let source = params.x_start + row * params.ldx + i;
{% endif %}
{% if WIDTH %}
{% set fours = (WIDTH + 3) // 4 %}
{% set half = WIDTH // 2 %}
{% for k in range(fours) %}
{% if IN_PLACE %}
  let v{{ k }} = load_y(at + {{ k }}u);
{% else %}
  var v{{ k }} = vec4f();
{% endif %}
{% endfor %}
{% if not IN_PLACE %}
  for (var group = 0u; group < params.groups; group++) {
{% for k in range(fours) %}
    v{{ k }} += load_x(source + group * params.step + {{ k }}u);
{% endfor %}
  }
{% if WIDTH % 4 %}
  let kept = load_y(at + {{ fours - 1 }}u);
{% endif %}
{% endif %}
{% for p in range(half) %}
  let c{{ p }} = turns[at_position * WIDTH + {{ p }}u];
  let s{{ p }} = {% if INVERSE %}-{% endif %}turns[at_position * WIDTH + {{ half + p }}u];
{% endfor %}
{% for k in range(fours) %}
  store_y(at + {{ k }}u, vec4f(
{% for j in range(4 * k, 4 * k + 4) %}
{% if j < half %}
    v{{ k }}[{{ j % 4 }}] * c{{ j }} - v{{ (j + half) // 4 }}[{{ (j + half) % 4 }}] * s{{ j }},
{% elif j < WIDTH %}
    v{{ k }}[{{ j % 4 }}] * c{{ j - half }} + v{{ (j - half) // 4 }}[{{ (j - half) % 4 }}] * s{{ j - half }},
{% else %}
    {{ "v" ~ k if IN_PLACE else "kept" }}[{{ j % 4 }}],
{% endif %}
{% endfor %}
  ));
{% endfor %}
{% else %}
  let turn = at_position * 2u * params.half4 + i;
  let c = load_turns(turn);
  let s = {% if INVERSE %}-{% endif %}load_turns(turn + params.half4);
{% if IN_PLACE %}
  let a = load_y(at);
  let b = load_y(at + params.half4);
{% else %}
  var a = vec4f();
  var b = vec4f();
  for (var group = 0u; group < params.groups; group++) {
    a += load_x(source + group * params.step);
    b += load_x(source + group * params.step + params.half4);
  }
{% endif %}
  store_y(at, a * c - b * s);
  store_y(at + params.half4, b * c + a * s);
{% endif %}
}
