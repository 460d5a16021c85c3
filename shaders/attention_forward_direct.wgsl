// Causal attention without workgroup memory, for software adapters: o = softmax(q kᵀ · scale) v and log_sum = log Σ exp(q kᵀ · scale).
//
// q [T, heads·(NOPE+ROPE)], kv [T, heads·(NOPE+V)], kr [T, ROPE] (shared by the heads), o [T, heads·V], log_sum [heads, T];
// T = batch · length, a sequence's rows follow one another. Widths NOPE4, ROPE4, V4 are in vec4s.
//
// An invocation owns a query row, with q and o in registers, and streams the keys, KEYS at a time, keeping the running maximum and sum. The
// LANES rows of a workgroup follow one another in one head, so that every key is read at one address for all of them. Bound by arithmetic.

const QK4 = NOPE4 + ROPE4;
const KV4 = NOPE4 + V4;
const LOWEST = -3.0e38f;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let work = workgroup_number(id, count);
  let block = work % params.blocks;
  let head = work / params.blocks % params.heads;
  let sequence = work / params.blocks / params.heads;
  if (sequence >= params.batch) { return; }
  let first = sequence * params.length;
  let row = min(block * LANES + lane, params.length - 1u);
  let q_at = ((first + row) * params.heads + head) * QK4;
{% for d in range(NOPE4 + ROPE4) %}
  let q{{ d }} = load_q(q_at + {{ d }}u) * params.scale;
{% endfor %}
{% for d in range(V4) %}
  var o{{ d }} = vec4f();
{% endfor %}
  var highest = LOWEST;
  var sum = 0.0f;
  let last = min((block + 1u) * LANES, params.length);
  for (var j = 0u; j < last; j += KEYS) {
{% for k in range(KEYS) %}
    let key{{ k }} = first + min(j + {{ k }}u, last - 1u);
    let kv_at{{ k }} = (key{{ k }} * params.heads + head) * KV4;
    var dots{{ k }} = vec4f();
{% for d in range(NOPE4) %}
    dots{{ k }} = fma(q{{ d }}, load_kv(kv_at{{ k }} + {{ d }}u), dots{{ k }});
{% endfor %}
{% for d in range(ROPE4) %}
    dots{{ k }} = fma(q{{ NOPE4 + d }}, load_kr(key{{ k }} * ROPE4 + {{ d }}u), dots{{ k }});
{% endfor %}
    let s{{ k }} = select(LOWEST, dot(dots{{ k }}, vec4f(1.0)), j + {{ k }}u <= row);
{% endfor %}
    // Key 0 is never masked, so the maximum is a real score from the first step on.
    let raised = max(highest, {% for k in range(KEYS - 1) %}max(s{{ k }}, {% endfor %}s{{ KEYS - 1 }}{% for k in range(KEYS - 1) %}){% endfor %});
    let keep = exp(highest - raised);
    highest = raised;
    sum *= keep;
{% for k in range(KEYS) %}
    let p{{ k }} = exp(s{{ k }} - raised);
    sum += p{{ k }};
{% endfor %}
{% for d in range(V4) %}
    o{{ d }} *= keep;
{% for k in range(KEYS) %}
    o{{ d }} = fma(vec4f(p{{ k }}), load_kv(kv_at{{ k }} + NOPE4 + {{ d }}u), o{{ d }});
{% endfor %}
{% endfor %}
  }
  if (block * LANES + lane >= params.length) { return; }
  let o_at = ((first + row) * params.heads + head) * V4;
{% for d in range(V4) %}
  store_o(o_at + {{ d }}u, o{{ d }} / sum);
{% endfor %}
  log_sum[head * params.batch * params.length + first + row] = highest + log(sum);
}
