// Causal attention without workgroup memory, for software adapters: o = softmax(q kᵀ · scale) v and log_sum = log Σ exp(q kᵀ · scale).
//
// q [T, heads·(NOPE+ROPE)], kv [T, heads·(NOPE+V)], kr [T, ROPE] (shared by the heads), o [T, heads·V], log_sum [heads, T];
// T = batch · length, a sequence's rows follow one another. Widths NOPE4, ROPE4, V4 are in vec4s; where ROPE4 is 0 there is no kr.
//
// DROPOUT: probabilities count times dropout's factors (dropout.wgsl) in o, not in log_sum; a query's place in log_sum is their row, a key's in the sequence their column.
//
// An invocation owns ROWS query rows, LANES apart, with q and o in registers, and streams the keys, KEYS at a time, keeping the running
// maximum and sum. A workgroup's rows follow one another in one head, so its invocations read the same keys. Bound by loads: a vec4 for
// 4 · ROWS products.
//
// SUBGROUPS: the workgroup is a subgroup, each invocation of which loads one of LANES keys, and shuffles hand them round.

const QK4 = NOPE4 + ROPE4;
const KV4 = NOPE4 + V4;
const LOWEST = -3.0e38f;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, {{ "@builtin(subgroup_invocation_id)" if SUBGROUPS else "@builtin(local_invocation_index)" }} lane: u32) {
  let work = workgroup_number(id, count);
  let block = work % params.blocks;
  let head = work / params.blocks % params.heads;
  let sequence = work / params.blocks / params.heads;
  if (sequence >= params.batch) { return; }
  let first = sequence * params.length;
{% for r in range(ROWS) %}
  let row{{ r }} = min(block * LANES * ROWS + {{ r }}u * LANES + lane, params.length - 1u);
  let q_at{{ r }} = ((first + row{{ r }}) * params.heads + head) * QK4;
{% for d in range(NOPE4 + ROPE4) %}
  let q{{ r }}_{{ d }} = load_q(q_at{{ r }} + {{ d }}u) * params.scale;
{% endfor %}
{% for d in range(V4) %}
  var o{{ r }}_{{ d }} = vec4f();
{% endfor %}
  var highest{{ r }} = LOWEST;
  var sum{{ r }} = 0.0f;
{% if DROPOUT %}
  let start{{ r }} = dropout_row(head * params.batch * params.length + first + row{{ r }});
{% endif %}
{% endfor %}
  let last = min((block + 1u) * LANES * ROWS, params.length);
{% if SUBGROUPS %}
  for (var batch = 0u; batch < last; batch += LANES) {
  let own_key = first + min(batch + lane, last - 1u);
{% for d in range(NOPE4 + ROPE4) %}
  let own_k{{ d }} = {% if d < NOPE4 %}load_kv((own_key * params.heads + head) * KV4 + {{ d }}u){% else %}load_kr(own_key * ROPE4 + {{ d - NOPE4 }}u){% endif %};
{% endfor %}
{% for d in range(V4) %}
  let own_v{{ d }} = load_kv((own_key * params.heads + head) * KV4 + NOPE4 + {{ d }}u);
{% endfor %}
  let batch_end = min(batch + LANES, last);
  for (var j = batch; j < batch_end; j += KEYS) {
{% else %}
  for (var j = 0u; j < last; j += KEYS) {
{% endif %}
{% for k in range(KEYS) %}
{% if SUBGROUPS %}
    let from{{ k }} = min(j + {{ k }}u, batch_end - 1u) - batch;
{% else %}
    let key{{ k }} = first + min(j + {{ k }}u, last - 1u);
    let kv_at{{ k }} = (key{{ k }} * params.heads + head) * KV4;
{% endif %}
{% for r in range(ROWS) %}
    var dots{{ r }}_{{ k }} = vec4f();
{% endfor %}
{% for d in range(NOPE4 + ROPE4) %}
    let k{{ k }}_{{ d }} = {% if SUBGROUPS %}subgroupShuffle(own_k{{ d }}, from{{ k }}){% elif d < NOPE4 %}load_kv(kv_at{{ k }} + {{ d }}u){% else %}load_kr(key{{ k }} * ROPE4 + {{ d - NOPE4 }}u){% endif %};
{% for r in range(ROWS) %}
    dots{{ r }}_{{ k }} = fma(q{{ r }}_{{ d }}, k{{ k }}_{{ d }}, dots{{ r }}_{{ k }});
{% endfor %}
{% endfor %}
{% endfor %}
{% for r in range(ROWS) %}
    // Key 0 is never masked, so the maximum is a real score from the first step on.
    var raised{{ r }} = highest{{ r }};
{% for k in range(KEYS) %}
    let s{{ r }}_{{ k }} = select(LOWEST, dot(dots{{ r }}_{{ k }}, vec4f(1.0)), j + {{ k }}u <= row{{ r }});
    raised{{ r }} = max(raised{{ r }}, s{{ r }}_{{ k }});
{% endfor %}
    let keep{{ r }} = exp(highest{{ r }} - raised{{ r }});
    highest{{ r }} = raised{{ r }};
    sum{{ r }} *= keep{{ r }};
{% for d in range(V4) %}
    o{{ r }}_{{ d }} *= keep{{ r }};
{% endfor %}
{% for k in range(KEYS) %}
    let p{{ r }}_{{ k }} = exp(s{{ r }}_{{ k }} - raised{{ r }});
    sum{{ r }} += p{{ r }}_{{ k }};
{% if DROPOUT %}
    let kept{{ r }}_{{ k }} = p{{ r }}_{{ k }} * dropout_factor(start{{ r }}, j + {{ k }}u);
{% endif %}
{% endfor %}
{% endfor %}
{% for k in range(KEYS) %}
{% for d in range(V4) %}
    let v{{ k }}_{{ d }} = {{ "subgroupShuffle(own_v" ~ d ~ ", from" ~ k ~ ")" if SUBGROUPS else "load_kv(kv_at" ~ k ~ " + NOPE4 + " ~ d ~ "u)" }};
{% for r in range(ROWS) %}
    o{{ r }}_{{ d }} = fma(vec4f({{ "kept" if DROPOUT else "p" }}{{ r }}_{{ k }}), v{{ k }}_{{ d }}, o{{ r }}_{{ d }});
{% endfor %}
{% endfor %}
{% endfor %}
  }
{% if SUBGROUPS %}
  }
{% endif %}
{% for r in range(ROWS) %}
  if (block * LANES * ROWS + {{ r }}u * LANES + lane < params.length) {
    let o_at = ((first + row{{ r }}) * params.heads + head) * V4;
{% for d in range(V4) %}
    store_o(o_at + {{ d }}u, o{{ r }}_{{ d }} / sum{{ r }});
{% endfor %}
    log_sum[head * params.batch * params.length + first + row{{ r }}] = highest{{ r }} + log(sum{{ r }});
  }
{% endfor %}
}
