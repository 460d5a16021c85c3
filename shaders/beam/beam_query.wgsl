// RMS norm of queries without a gain, row by row: q = raw · factor, factor = 1 / √(mean(raw²) + epsilon).
//
// raw, q f32 [rows, R4] in vec4s; a row is the query of a token's routing head on an axis. An invocation does a row, whose numbers
// are few. Bound by memory.

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = workgroup_number(id, count) * WORKGROUP + lane;
  if (row >= params.rows) { return; }
  var squares = vec4f();
{% for i in range(R4) %}
  let raw{{ i }} = load_raw(row * R4 + {{ i }}u);
  squares = fma(raw{{ i }}, raw{{ i }}, squares);
{% endfor %}
  let factor = 1.0 / sqrt(dot(squares, vec4f(1.0)) / f32(4u * R4) + params.epsilon);
{% for i in range(R4) %}
  store_q(row * R4 + {{ i }}u, raw{{ i }} * factor);
{% endfor %}
}
