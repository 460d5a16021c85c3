// Gradient of one axis' scores: ds_j = Σ of dtotal over the kept experts whose sub-key on the axis is j, zero elsewhere.
//
// index u32, dtotal f32 [·, top], from row params.first_row on; ds f32 [rows, stride]; params.axis 0: r = index / keys, 1: c = index % keys.
// BALANCE adds the load-balance term: weight · loss_scale · p_j (f_j − Σ_i f_i p_i), p the softmax of s f32 [rows, stride],
// f the counts u32 [2, keys] over all kept experts, statistics f32 [2, ·, 4] (maximum, 1/Σ, Σ f p) as routing_balance.wgsl wrote them.
//
// An invocation does four numbers of a row: it looks through the row's experts in order, so several of one sub-key add up in a
// fixed order. Bound by writing ds.

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * WORKGROUP + lane;
  let width = params.stride / 4u;
  if (i >= params.rows * width) { return; }
  let row = params.first_row + i / width;
  let key = 4u * (i % width) + vec4u(0u, 1u, 2u, 3u);
  var sum = vec4f();
  for (var j = row * params.top; j < (row + 1u) * params.top; j++) {
    let expert = index[j];
    let kept = select(expert / params.keys, expert % params.keys, params.axis == 1u);
    sum += select(vec4f(), vec4f(dtotal[j]), key == vec4u(kept));
  }
{% if BALANCE %}
  let s4 = load_s(i);
  let row_statistics = load_statistics(params.axis * params.all_rows + row);
  let p = exp(s4 - row_statistics.x) * row_statistics.y;
  let at = params.axis * params.keys;
  let last = params.keys - 1u;
  let f = vec4f(vec4u(counts[at + min(key.x, last)], counts[at + min(key.y, last)], counts[at + min(key.z, last)], counts[at + min(key.w, last)])) * params.fraction;
{% if SCALED %}
  let weight = params.weight * loss_scale[0];
{% else %}
  let weight = params.weight;
{% endif %}
  sum += select(vec4f(), weight * p * (f - row_statistics.z), key < vec4u(params.keys));
{% endif %}
  store_ds(i, sum);
}
