// loss[t] = log Σ_v exp(z[t, v]) − z[t, target[t]], and z ← (softmax(z) − onehot(target)) · scale when GRADIENT, in place.
// z: [rows, V] f32 with rows of `stride` vec4s, padded with zeros; targets: [T] u32; losses: [T] f32; control[0] is the loss scale.
// A target of 0xffffffff is not predicted: loss 0, gradient 0. params: rows, vocabulary, stride, first (token of row 0), scale.
//
// LANES invocations share a row: one on software adapters, a workgroup elsewhere. Three passes over the row. Bound by memory.
{% if LANES > 1 %}
var<workgroup> shared_values: array<f32, LANES>;

fn reduce_max(lane: u32, value: f32) -> f32 {
  workgroupBarrier();
  shared_values[lane] = value;
  workgroupBarrier();
  for (var step = LANES / 2u; step > 0u; step /= 2u) {
    if (lane < step) { shared_values[lane] = max(shared_values[lane], shared_values[lane + step]); }
    workgroupBarrier();
  }
  return shared_values[0];
}

fn reduce_sum(lane: u32, value: f32) -> f32 {
  workgroupBarrier();
  shared_values[lane] = value;
  workgroupBarrier();
  for (var step = LANES / 2u; step > 0u; step /= 2u) {
    if (lane < step) { shared_values[lane] += shared_values[lane + step]; }
    workgroupBarrier();
  }
  return shared_values[0];
}
{% else %}
fn reduce_max(lane: u32, value: f32) -> f32 { return value; }
fn reduce_sum(lane: u32, value: f32) -> f32 { return value; }
{% endif %}

const ROWS = {{ 1 if LANES > 1 else 8 }}u;

@compute @workgroup_size({{ LANES if LANES > 1 else 8 }})
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) index: u32) {
  let row = workgroup_number(id, count) * ROWS + {{ "0u" if LANES > 1 else "index" }};
  let lane = {{ "index" if LANES > 1 else "0u" }};
  if (row >= params.rows) { return; }
  let start = row * params.stride;
  let lanes = vec4u(0u, 1u, 2u, 3u);
  let lowest = vec4f(-3.4e38);

  var most = lowest;
  for (var i = lane; i < params.stride; i += LANES) {
    most = max(most, select(lowest, load_z(start + i), 4u * i + lanes < vec4u(params.vocabulary)));
  }
  let top = reduce_max(lane, max(max(most.x, most.y), max(most.z, most.w)));

  var sums = vec4f();
  for (var i = lane; i < params.stride; i += LANES) {
    sums += select(vec4f(), exp(load_z(start + i) - top), 4u * i + lanes < vec4u(params.vocabulary));
  }
  let total = reduce_sum(lane, (sums.x + sums.y) + (sums.z + sums.w));

  let target_id = targets[params.first + row];
  let predicted = target_id != 0xffffffffu;
  if (lane == 0u) {
    let at = min(target_id, params.vocabulary - 1u);
    losses[params.first + row] = select(0.0, log(total) + top - load_z(start + at / 4u)[at % 4u], predicted);
  }
{% if GRADIENT %}
{% if LANES > 1 %}
  // The loss above reads what the loop below overwrites.
  workgroupBarrier();
{% endif %}
  let scale = select(0.0, params.scale * control[0], predicted);
  for (var i = lane; i < params.stride; i += LANES) {
    let columns = 4u * i + lanes;
    let p = exp(load_z(start + i) - top) / total - select(vec4f(), vec4f(1.0), columns == vec4u(target_id));
    store_z(start + i, select(vec4f(), p * scale, columns < vec4u(params.vocabulary)));
  }
{% endif %}
}
