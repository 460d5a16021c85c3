// Gradient of one axis' scores: ds_j = Σ of dtotal over the kept experts whose sub-key on the axis is j, zero elsewhere.
//
// index u32, dtotal f32 [·, TOP], from row params.first_row on; ds [rows, stride]; params.axis 0: r = index / keys, 1: c = index % keys.
// BALANCE adds the load-balance term: weight · control.loss_scale · p_j (f_j − Σ_i f_i p_i), p the softmax of s f32 [rows, stride],
// f the counts u32 [2, keys] over all kept experts (TOTAL: their number after the counts; params.fraction is one over it otherwise), statistics f32 [2, ·, 4] (maximum, 1/Σ, Σ f p) as routing_balance.wgsl wrote them.
//
// Several experts of one sub-key add up in their order. Software: an invocation does four numbers of a row and looks through the row's experts; KEYS, WIDTH and AXIS are known to the compiler, since llvmpipe divides lane by lane. JOINT: it does both axes, ds that of axis 0 and ds_1 that of axis 1. Otherwise a workgroup does ROWS rows, 32
// invocations each: a row is made in workgroup memory, where the first expert of each sub-key puts the sum. Bound by writing ds.

{% if BALANCE %}
fn balance(row: u32, at: u32, key: vec4u) -> vec4f {
  let s4 = load_s(at);
  let row_statistics = load_statistics(params.axis * params.all_rows + row);
  let p = exp(s4 - row_statistics.x) * row_statistics.y;
  let base = params.axis * params.keys;
  let last = params.keys - 1u;
  let f = vec4f(vec4u(counts[base + min(key.x, last)], counts[base + min(key.y, last)], counts[base + min(key.z, last)], counts[base + min(key.w, last)])) * {{ "(1.0 / f32(counts[2u * params.keys]))" if TOTAL else "params.fraction" }};
{% if SCALED %}
  let weight = params.weight * control.loss_scale;
{% else %}
  let weight = params.weight;
{% endif %}
  return select(vec4f(), weight * p * (f - row_statistics.z), key < vec4u(params.keys));
}
{% endif %}

{% if SOFTWARE %}
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let at = workgroup_number(id, count) * 64u + lane;
  if (at >= params.rows * WIDTH) { return; }
  let row = params.first_row + at / WIDTH;
  let key = 4u * (at % WIDTH) + vec4u(0u, 1u, 2u, 3u);
  var sum = vec4f();
{% if JOINT %}
  var sum_1 = vec4f();
{% endif %}
{% for j in range(TOP) %}
  {
    let expert = index[row * TOP + {{ j }}u];
    let value = vec4f(dtotal[row * TOP + {{ j }}u]);
    sum += select(vec4f(), value, key == vec4u({{ "expert % KEYS" if AXIS == 1 else "expert / KEYS" }}));
{% if JOINT %}
    sum_1 += select(vec4f(), value, key == vec4u(expert % KEYS));
{% endif %}
  }
{% endfor %}
{% if BALANCE %}
  sum += balance(row, at, key);
{% endif %}
{% if JOINT %}
  store_ds_1(at, sum_1);
{% endif %}
  store_ds(at, sum);
}
{% else %}
// Of number 4 c + i of a row, number c of its i-th quarter: neighbours read neighbours.
var<workgroup> line: array<f32, ROWS * 4u * WIDTH>;
var<workgroup> kept: array<u32, ROWS * TOP>;
var<workgroup> value: array<f32, ROWS * TOP>;

@compute @workgroup_size({{ ROWS * 32 }})
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) invocation: u32) {
  let first = workgroup_number(id, count) * ROWS;
  if (first >= params.rows) { return; }
  let slot = invocation / 32u;
  let lane = invocation % 32u;
  // Rows beyond the last are the last once more, and are not written.
  let row = min(first + slot, params.rows - 1u);
  let at_line = slot * 4u * WIDTH;
  let at_kept = slot * TOP;
  for (var c = lane; c < 4u * WIDTH; c += 32u) { line[at_line + c] = 0.0; }
  for (var j = lane; j < TOP; j += 32u) {
    let at = (params.first_row + row) * TOP + j;
    let expert = index[at];
    kept[at_kept + j] = select(expert / params.keys, expert % params.keys, params.axis == 1u);
    value[at_kept + j] = dtotal[at];
  }
  workgroupBarrier();
  for (var j = lane; j < TOP; j += 32u) {
    let own = kept[at_kept + j];
    var sum = 0.0;
    var earlier = false;
{% for i in range(TOP) %}
    {
      let same = kept[at_kept + {{ i }}u] == own;
      sum += select(0.0, value[at_kept + {{ i }}u], same);
      earlier = earlier || (same && {{ i }}u < j);
    }
{% endfor %}
    if (!earlier) { line[at_line + own % 4u * WIDTH + own / 4u] = sum; }
  }
  workgroupBarrier();
  if (first + slot >= params.rows) { return; }
  for (var c = lane; c < WIDTH; c += 32u) {
    let place = at_line + c;
    var sum = vec4f(line[place], line[place + WIDTH], line[place + 2u * WIDTH], line[place + 3u * WIDTH]);
{% if BALANCE %}
    sum += balance(params.first_row + row, row * WIDTH + c, 4u * c + vec4u(0u, 1u, 2u, 3u));
{% endif %}
    store_ds(row * WIDTH + c, sum);
  }
}
{% endif %}
