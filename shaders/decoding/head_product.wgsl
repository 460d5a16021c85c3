// A product for every head with that head's block of a matrix: y_h = x_h W_h, or with TRANSPOSED y_h = x_h W_hᵀ.
//
// x [tokens, heads · k], y [tokens, heads · n]: heads lie x_step and y_step vec4s apart, rows ldx and ldy. W_h starts at w_start + h · w_step,
// its rows are ldw apart: [k, n], or [n, k] with TRANSPOSED. An invocation computes four columns of one head and token. Bound by reading
// W, since tokens are few.

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let item = workgroup_number(id, count) * LANES + lane;
  let n = item % params.n4;
  let head = item / params.n4 % params.heads;
  let token = item / params.n4 / params.heads;
  if (token >= params.tokens) { return; }
  let x_at = token * params.ldx + head * params.x_step;
  let w_at = params.w_start + head * params.w_step;
  var total = vec4f();
  for (var k = 0u; k < params.k4; k++) {
    let v = load_x(x_at + k);
{% if TRANSPOSED %}
    total += vec4f(
{% for i in range(4) %}
      dot(v, load_w(w_at + (4u * n + {{ i }}u) * params.ldw + k)),
{% endfor %}
    );
{% else %}
{% for i in range(4) %}
    total = fma(vec4f(v[{{ i }}]), load_w(w_at + (4u * k + {{ i }}u) * params.ldw + n), total);
{% endfor %}
{% endif %}
  }
  store_y(token * params.ldy + head * params.y_step + n, total);
}
