// Causal attention through tiles in workgroup memory; bindings, layouts and result as in attention_forward_direct.wgsl.
//
// A workgroup of ROWS · SPLIT invocations owns ROWS query rows of a head. SPLIT neighbours share a row: invocation `part` holds every SPLIT-th
// vec4 of q and of o, from `part` on (widths are padded with zeros to whole slices). Keys and values come in tiles of TILE
// rows; each invocation computes its part of TILE scores, the parts are summed through workgroup memory in their order, and all
// neighbours continue with the same bits. Bound by loads from workgroup memory: one vec4 for four products.

const QK4 = NOPE4 + ROPE4;
const KV4 = NOPE4 + V4;
const LOWEST = -3.0e38f;
const LANES = ROWS * SPLIT;
{% set QN = (NOPE4 + ROPE4 + SPLIT - 1) // SPLIT %}
{% set VN = (V4 + SPLIT - 1) // SPLIT %}
// Padded widths.
const QP = {{ QN }}u * SPLIT;
const VP = {{ VN }}u * SPLIT;

var<workgroup> tile_k: array<vec4f, TILE * QP>;
var<workgroup> tile_v: array<vec4f, TILE * VP>;
var<workgroup> parts: array<f32, TILE * LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let work = workgroup_number(id, count);
  // Late rows see the most keys: they start first.
  let block = params.blocks - 1u - work % params.blocks;
  let head = work / params.blocks % params.heads;
  let sequence = work / params.blocks / params.heads;
  // The whole workgroup leaves together, so the barriers below stay uniform.
  if (sequence >= params.batch) { return; }
  let first = sequence * params.length;
  let part = lane % SPLIT;
  let row = min(block * ROWS + lane / SPLIT, params.length - 1u);
  let q_at = ((first + row) * params.heads + head) * QK4;
{% for n in range(QN) %}
  let q{{ n }} = select(vec4f(), load_q(q_at + min(part + {{ n * SPLIT }}u, QK4 - 1u)) * params.scale, part + {{ n * SPLIT }}u < QK4);
{% endfor %}
{% for n in range(VN) %}
  var o{{ n }} = vec4f();
{% endfor %}
  var highest = LOWEST;
  var sum = 0.0f;
{% if DROPOUT %}
  let start = dropout_row(head * params.batch * params.length + first + row);
{% endif %}
  let last = min((block + 1u) * ROWS, params.length);
  for (var j = 0u; j < last; j += TILE) {
    workgroupBarrier();
    for (var item = lane; item < TILE * QP; item += LANES) {
      let key = first + min(j + item / QP, last - 1u);
      let d = item % QP;
      var v = vec4f();
      if (d < NOPE4) { v = load_kv((key * params.heads + head) * KV4 + d); }
{% if ROPE4 > 0 %}
      else if (d < QK4) { v = load_kr(key * ROPE4 + d - NOPE4); }
{% endif %}
      tile_k[item] = v;
    }
    for (var item = lane; item < TILE * VP; item += LANES) {
      let key = first + min(j + item / VP, last - 1u);
      let d = item % VP;
      var v = vec4f();
      if (d < V4) { v = load_kv((key * params.heads + head) * KV4 + NOPE4 + d); }
      tile_v[item] = v;
    }
    workgroupBarrier();
{% for t in range(TILE) %}
    {
      var dots = vec4f();
{% for n in range(QN) %}
      dots = fma(q{{ n }}, tile_k[{{ t }}u * QP + part + {{ n * SPLIT }}u], dots);
{% endfor %}
      parts[{{ t }}u * LANES + lane] = dot(dots, vec4f(1.0));
    }
{% endfor %}
    workgroupBarrier();
    var raised = highest;
{% for t in range(TILE) %}
    var s{{ t }} = parts[{{ t }}u * LANES + lane - part];
{% for p in range(1, SPLIT) %}
    s{{ t }} += parts[{{ t }}u * LANES + lane - part + {{ p }}u];
{% endfor %}
    s{{ t }} = select(LOWEST, s{{ t }}, j + {{ t }}u <= row);
    raised = max(raised, s{{ t }});
{% endfor %}
    let keep = exp(highest - raised);
    highest = raised;
    sum *= keep;
{% for n in range(VN) %}
    o{{ n }} *= keep;
{% endfor %}
{% for t in range(TILE) %}
    {
      let p = exp(s{{ t }} - raised);
      sum += p;
{% if DROPOUT %}
      let kept = p * dropout_factor(start, j + {{ t }}u);
{% endif %}
{% for n in range(VN) %}
      o{{ n }} = fma(vec4f({{ "kept" if DROPOUT else "p" }}), tile_v[{{ t }}u * VP + part + {{ n * SPLIT }}u], o{{ n }});
{% endfor %}
    }
{% endfor %}
  }
  if (block * ROWS + lane / SPLIT >= params.length) { return; }
  let o_at = ((first + row) * params.heads + head) * V4;
{% for n in range(VN) %}
  if (part + {{ n * SPLIT }}u < V4) { store_o(o_at + part + {{ n * SPLIT }}u, o{{ n }} / sum); }
{% endfor %}
  if (part == 0u) { log_sum[head * params.batch * params.length + first + row] = highest + log(sum); }
}
