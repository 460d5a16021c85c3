// loss[t] = log Σ_v exp(z[t, v]) − z[t, target[t]], and z ← (softmax(z) − onehot(target)) · scale when GRADIENT, in place.
// z: [rows, V] with rows of `stride` vec4s, padded with zeros; targets: [T] u32; losses: [T] f32; control: see ops/control.ts.
// A target of 0xffffffff is not predicted: loss 0, gradient 0. With COUNTED the scale is divided by predictions[0]. params: rows, vocabulary, stride, first (token of row 0), scale.
//
// Rows and their invocations as in rows.wgsl. Two passes over the row, without GRADIENT one, in which an invocation asks for UNROLL vec4s at once. Bound by memory.

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = row_of(workgroup_number(id, count), lane);
  let first = first_of(lane);
  if (row >= params.rows) { return; }
  let start = row * params.stride;
  let lanes = vec4u(0u, 1u, 2u, 3u);
  let lowest = vec4f(-3.4e38);

  // The sum is of exp(z − most), most the largest so far: when a larger one comes, it is scaled down.
  var most = lowest.x;
  var sums = vec4f();
  for (var i = first; i < params.stride; i += UNROLL * STRIDE) {
{% for u in range(UNROLL) %}
    let z{{ u }} = load_z(start + min(i + {{ u }}u * STRIDE, params.stride - 1u));
{% endfor %}
{% for u in range(UNROLL) %}
    {
      // Beyond the row nothing is real.
      let real = 4u * (i + {{ u }}u * STRIDE) + lanes < vec4u(params.vocabulary);
      let known = select(lowest, z{{ u }}, real);
      let here = max(max(known.x, known.y), max(known.z, known.w));
      if (here > most) {
        sums *= exp(most - here);
        most = here;
      }
      sums += select(vec4f(), exp(z{{ u }} - most), real);
    }
{% endfor %}
  }
  let top = reduce_max(lane, most);
  let total = reduce_sum(lane, ((sums.x + sums.y) + (sums.z + sums.w)) * exp(most - top));

  let target_id = targets[params.first + row];
  let predicted = target_id != 0xffffffffu;
  if (first == 0u) {
    let at = min(target_id, params.vocabulary - 1u);
    losses[params.first + row] = select(0.0, log(total) + top - load_z(start + at / 4u)[at % 4u], predicted);
  }
{% if GRADIENT %}
{% if not BY_ROW %}
  // The loss above reads what the loop below overwrites.
  workgroupBarrier();
{% endif %}
{% if COUNTED %}
  let scale = select(0.0, params.scale * control.loss_scale / predictions[0], predicted);
{% else %}
  let scale = select(0.0, params.scale * control.loss_scale, predicted);
{% endif %}
  for (var i = first; i < params.stride; i += UNROLL * STRIDE) {
{% for u in range(UNROLL) %}
    let z{{ u }} = load_z(start + min(i + {{ u }}u * STRIDE, params.stride - 1u));
{% endfor %}
{% for u in range(UNROLL) %}
    if (i + {{ u }}u * STRIDE < params.stride) {
      let columns = 4u * (i + {{ u }}u * STRIDE) + lanes;
      let p = exp(z{{ u }} - top) / total - select(vec4f(), vec4f(1.0), columns == vec4u(target_id));
      store_z(start + i + {{ u }}u * STRIDE, select(vec4f(), p * scale, columns < vec4u(params.vocabulary)));
    }
{% endfor %}
  }
{% endif %}
}
