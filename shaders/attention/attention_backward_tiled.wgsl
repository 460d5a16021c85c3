// Gradients of causal attention through tiles in workgroup memory; equations, bindings and layouts as in attention_backward_direct.wgsl.
//
// A workgroup of ROWS · SPLIT invocations owns ROWS rows of a head: queries (SIDE "query") or keys with their values (SIDE "key"). SPLIT
// neighbours share a row, each with every SPLIT-th vec4 of it and of its gradient. The other side comes in tiles of TILE rows; parts of the
// two dot products are summed through workgroup memory in their order. Bound by loads from workgroup memory.

const QK4 = NOPE4 + ROPE4;
const KV4 = NOPE4 + V4;
const LANES = ROWS * SPLIT;
{% set QN = (NOPE4 + ROPE4 + SPLIT - 1) // SPLIT %}
{% set VN = (V4 + SPLIT - 1) // SPLIT %}
// Padded widths.
const QP = {{ QN }}u * SPLIT;
const VP = {{ VN }}u * SPLIT;

var<workgroup> tile_a: array<vec4f, TILE * QP>;
var<workgroup> tile_b: array<vec4f, TILE * VP>;
var<workgroup> parts: array<vec2f, TILE * LANES>;

// vec4 d of a row, zero beyond its width.
fn query(token: u32, head: u32, d: u32) -> vec4f {
  if (d < QK4) { return load_q((token * params.heads + head) * QK4 + d); }
  return vec4f();
}
fn key(token: u32, head: u32, d: u32) -> vec4f {
  if (d < NOPE4) { return load_kv((token * params.heads + head) * KV4 + d); }
{% if ROPE4 > 0 %}
  if (d < QK4) { return load_kr(token * ROPE4 + d - NOPE4); }
{% endif %}
  return vec4f();
}
fn value(token: u32, head: u32, d: u32) -> vec4f {
  if (d < V4) { return load_kv((token * params.heads + head) * KV4 + NOPE4 + d); }
  return vec4f();
}
fn upstream(token: u32, head: u32, d: u32) -> vec4f {
  if (d < V4) { return load_d_o((token * params.heads + head) * V4 + d); }
  return vec4f();
}

{% if SIDE == "query" %}{% set own_a = "query" %}{% set own_b = "upstream" %}{% set other_a = "key" %}{% set other_b = "value" %}
{% else %}{% set own_a = "key" %}{% set own_b = "value" %}{% set other_a = "query" %}{% set other_b = "upstream" %}{% endif %}
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let work = workgroup_number(id, count);
  // The rows with the most work start first: late queries, early keys.
{% if SIDE == "query" %}
  let block = params.blocks - 1u - work % params.blocks;
{% else %}
  let block = work % params.blocks;
{% endif %}
  let head = work / params.blocks % params.heads;
  let sequence = work / params.blocks / params.heads;
  // The whole workgroup leaves together, so the barriers below stay uniform.
  if (sequence >= params.batch) { return; }
  let first = sequence * params.length;
  let statistics = head * params.batch * params.length + first;
  let part = lane % SPLIT;
  let row = min(block * ROWS + lane / SPLIT, params.length - 1u);
{% for n in range(QN) %}
  let a{{ n }} = {{ own_a }}(first + row, head, part + {{ n * SPLIT }}u);
  var da{{ n }} = vec4f();
{% endfor %}
{% for n in range(VN) %}
  let b{{ n }} = {{ own_b }}(first + row, head, part + {{ n * SPLIT }}u);
{% if SIDE == "key" %}
  var db{{ n }} = vec4f();
{% endif %}
{% endfor %}
{% if SIDE == "query" %}
  let own_log_sum = log_sum[statistics + row];
  let own_delta = delta[statistics + row];
{% if DROPOUT %}
  let start = dropout_row(statistics + row);
{% endif %}
  let begin = 0u;
  let end = min((block + 1u) * ROWS, params.length);
{% else %}
  let begin = block * ROWS;
  let end = params.length;
{% endif %}
  for (var j = begin; j < end; j += TILE) {
    workgroupBarrier();
    for (var item = lane; item < TILE * QP; item += LANES) {
      tile_a[item] = {{ other_a }}(first + min(j + item / QP, end - 1u), head, item % QP);
    }
    for (var item = lane; item < TILE * VP; item += LANES) {
      tile_b[item] = {{ other_b }}(first + min(j + item / VP, end - 1u), head, item % VP);
    }
    workgroupBarrier();
{% for t in range(TILE) %}
    {
      var dots = vec4f();
{% for n in range(QN) %}
      dots = fma(a{{ n }}, tile_a[{{ t }}u * QP + part + {{ n * SPLIT }}u], dots);
{% endfor %}
      var dp = vec4f();
{% for n in range(VN) %}
      dp = fma(b{{ n }}, tile_b[{{ t }}u * VP + part + {{ n * SPLIT }}u], dp);
{% endfor %}
      parts[{{ t }}u * LANES + lane] = vec2f(dot(dots, vec4f(1.0)), dot(dp, vec4f(1.0)));
    }
{% endfor %}
    workgroupBarrier();
{% for t in range(TILE) %}
    {
      var both = parts[{{ t }}u * LANES + lane - part];
{% for p in range(1, SPLIT) %}
      both += parts[{{ t }}u * LANES + lane - part + {{ p }}u];
{% endfor %}
{% if SIDE == "query" %}
      let p = select(0.0, exp(both.x * params.scale - own_log_sum), j + {{ t }}u <= row);
{% if DROPOUT %}
      let f = dropout_factor(start, j + {{ t }}u);
{% endif %}
      let ds = p * ({{ "f * " if DROPOUT else "" }}both.y - own_delta) * params.scale;
{% else %}
      let other = statistics + min(j + {{ t }}u, end - 1u);
{% if DROPOUT %}
      let f = dropout_factor(dropout_row(other), row);
{% endif %}
      let p = select(0.0, exp(both.x * params.scale - log_sum[other]), j + {{ t }}u >= row && j + {{ t }}u < end);
      let ds = p * ({{ "f * " if DROPOUT else "" }}both.y - delta[other]) * params.scale;
{% endif %}
{% for n in range(QN) %}
      da{{ n }} = fma(vec4f(ds), tile_a[{{ t }}u * QP + part + {{ n * SPLIT }}u], da{{ n }});
{% endfor %}
{% if SIDE == "key" %}
{% for n in range(VN) %}
      db{{ n }} = fma(vec4f(p{{ " * f" if DROPOUT else "" }}), tile_b[{{ t }}u * VP + part + {{ n * SPLIT }}u], db{{ n }});
{% endfor %}
{% endif %}
    }
{% endfor %}
  }
  if (block * ROWS + lane / SPLIT >= params.length) { return; }
  let to = (first + row) * params.heads + head;
{% for n in range(QN) %}
  {
    let d = part + {{ n * SPLIT }}u;
{% if SIDE == "query" %}
    if (d < QK4) { store_d_q(to * QK4 + d, da{{ n }}); }
{% else %}
    if (d < NOPE4) { store_d_kv(to * KV4 + d, da{{ n }}); }
{% if ROPE4 > 0 %}
    else if (d < QK4) { store_d_kr(to * ROPE4 + d - NOPE4, da{{ n }}); }
{% endif %}
{% endif %}
  }
{% endfor %}
{% if SIDE == "key" %}
{% for n in range(VN) %}
  if (part + {{ n * SPLIT }}u < V4) { store_d_kv(to * KV4 + NOPE4 + part + {{ n * SPLIT }}u, db{{ n }}); }
{% endfor %}
{% endif %}
}
