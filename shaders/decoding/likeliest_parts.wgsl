// Of each part of a row of logits the first choice (logit_order.wgsl), and Σ exp(z − its logit).
// z: [rows, V] with rows of `stride` vec4s; orders, tokens: [rows, parts] u32; sums: [rows, parts] f32.
// params: rows, vocabulary, stride, vectors (vec4s of a row that hold logits), parts (at most as many).
//
// Part p holds the vec4s p, p + parts, …, so that neighbouring invocations read neighbouring vec4s. An invocation takes a part. Bound by memory.

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let at = workgroup_number(id, count) * LANES + lane;
  if (at >= params.rows * params.parts) { return; }
  let start = at / params.parts * params.stride;
  let lowest = vec4f(-3.4e38);

  // The sum is of exp(z − most), most the largest so far: when a larger one comes, it is scaled down.
  var most = lowest.x;
  var sum = vec4f();
  var first = NO_CHOICE;
  for (var i = at % params.parts; i < params.vectors; i += params.parts) {
    let z = load_z(start + i);
    let bits = bitcast<vec4u>(z);
    let real = 4u * i + vec4u(0u, 1u, 2u, 3u) < vec4u(params.vocabulary);
    let known = select(lowest, z, real);
    let here = max(max(known.x, known.y), max(known.z, known.w));
    if (here > most) {
      sum *= exp(most - here);
      most = here;
    }
    sum += select(vec4f(), exp(z - most), real);
{% for c in range(4) %}
    {
      let choice = vec2u(order_of(bits[{{ c }}]), 4u * i + {{ c }}u);
      first = select(first, choice, real[{{ c }}] && comes_before(choice, first));
    }
{% endfor %}
  }
  orders[at] = first.x;
  tokens[at] = first.y;
  sums[at] = (sum.x + sum.y) + (sum.z + sum.w);
}
