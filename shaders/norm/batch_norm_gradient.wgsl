// Backward of batch norm, second stage: the partial sums of batch_norm_sums.wgsl, added in order.
//
// partial f32 [chunks, 2, width]; dbeta = Σ dy and (NORM) dgamma = Σ dy · x̂, f32 [width], added to what is there when params.accumulate is 1;
// sums f32 [2, width], the same without what was there. A workgroup does COLUMNS times four features, LANES invocations each: an invocation adds consecutive chunks,
// and the first what all of them have. Bound by latency.

{% if LANES > 1 %}
var<workgroup> parts: array<vec4f, 2u * COLUMNS * LANES>;
{% endif %}

@compute @workgroup_size({{ COLUMNS * LANES }})
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) invocation: u32) {
  let own = workgroup_number(id, count) * COLUMNS + invocation % COLUMNS;
  let column = min(own, params.width - 1u);
  let lane = invocation / COLUMNS;
  let run = (params.chunks + LANES - 1u) / LANES;
  var sum = vec4f();
  var product = vec4f();
  for (var chunk = lane * run; chunk < min((lane + 1u) * run, params.chunks); chunk++) {
    sum += load_partial(2u * chunk * params.width + column);
{% if NORM %}
    product += load_partial((2u * chunk + 1u) * params.width + column);
{% endif %}
  }
{% if LANES > 1 %}
  parts[2u * invocation] = sum;
  parts[2u * invocation + 1u] = product;
  workgroupBarrier();
{% endif %}
  if (lane > 0u || own >= params.width) { return; }
{% if LANES > 1 %}
  for (var i = 1u; i < LANES; i++) {
    sum += parts[2u * (i * COLUMNS + invocation)];
    product += parts[2u * (i * COLUMNS + invocation) + 1u];
  }
{% endif %}
{% if NORM %}
  store_sums(column, sum);
  store_sums(params.width + column, product);
  if (params.accumulate == 1u) { product += load_dgamma(column); }
  store_dgamma(column, product);
{% endif %}
  if (params.accumulate == 1u) { sum += load_dbeta(column); }
  store_dbeta(column, sum);
}
