// Gradients of causal attention without workgroup memory, for software adapters.
//
// With s = q·k · scale, p = exp(s − log_sum), ds = p (d_o·v − delta) scale:
// SIDE "query": d_q = Σ over keys of ds · k.   SIDE "key": d_k = Σ over queries of ds · q, d_v = Σ over queries of p · d_o.
//
// q, d_q [T, heads·(NOPE+ROPE)], kv, d_kv [T, heads·(NOPE+V)], kr [T, ROPE], d_kr [T, heads·ROPE] (a head's share of the shared key's
// gradient), d_o [T, heads·V], log_sum, delta [heads, T]; T = batch · length. Widths NOPE4, ROPE4, V4 are in vec4s.
//
// An invocation owns a row (of queries or of keys) with its gradient in registers and streams the other side's rows, STREAM at a time,
// which every invocation of the workgroup reads at one address. Nothing is added to by two invocations. Bound by arithmetic.

const QK4 = NOPE4 + ROPE4;
const KV4 = NOPE4 + V4;

{% macro key(d, row) %}{% if d < NOPE4 %}load_kv(({{ row }} * params.heads + head) * KV4 + {{ d }}u){% else %}load_kr({{ row }} * ROPE4 + {{ d - NOPE4 }}u){% endif %}{% endmacro %}
{% macro side_a(d, row, own) %}{% if (SIDE == "query") == own %}load_q(({{ row }} * params.heads + head) * QK4 + {{ d }}u){% else %}{{ key(d, row) }}{% endif %}{% endmacro %}
{% macro side_b(d, row, own) %}{% if (SIDE == "query") == own %}load_d_o(({{ row }} * params.heads + head) * V4 + {{ d }}u){% else %}load_kv(({{ row }} * params.heads + head) * KV4 + NOPE4 + {{ d }}u){% endif %}{% endmacro %}
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let work = workgroup_number(id, count);
  let block = work % params.blocks;
  let head = work / params.blocks % params.heads;
  let sequence = work / params.blocks / params.heads;
  if (sequence >= params.batch) { return; }
  let first = sequence * params.length;
  let statistics = head * params.batch * params.length + first;
  let row = min(block * LANES + lane, params.length - 1u);
  let own = first + row;
{% for d in range(NOPE4 + ROPE4) %}
  let a{{ d }} = {{ side_a(d, "own", true) }};
  var da{{ d }} = vec4f();
{% endfor %}
{% for d in range(V4) %}
  let b{{ d }} = {{ side_b(d, "own", true) }};
{% if SIDE == "key" %}
  var db{{ d }} = vec4f();
{% endif %}
{% endfor %}
{% if SIDE == "query" %}
  let own_log_sum = log_sum[statistics + row];
  let own_delta = delta[statistics + row];
  let begin = 0u;
  let end = min((block + 1u) * LANES, params.length);
{% else %}
  let begin = block * LANES;
  let end = params.length;
{% endif %}
  for (var j = begin; j < end; j += STREAM) {
{% for t in range(STREAM) %}
    let other{{ t }} = min(j + {{ t }}u, end - 1u);
    let at{{ t }} = first + other{{ t }};
    var dots{{ t }} = vec4f();
{% for d in range(NOPE4 + ROPE4) %}
    dots{{ t }} = fma(a{{ d }}, {{ side_a(d, "at" ~ t, false) }}, dots{{ t }});
{% endfor %}
    var dp{{ t }} = vec4f();
{% for d in range(V4) %}
    dp{{ t }} = fma(b{{ d }}, {{ side_b(d, "at" ~ t, false) }}, dp{{ t }});
{% endfor %}
    let s{{ t }} = dot(dots{{ t }}, vec4f(1.0)) * params.scale;
{% if SIDE == "query" %}
    let p{{ t }} = select(0.0, exp(s{{ t }} - own_log_sum), j + {{ t }}u <= row);
    let ds{{ t }} = p{{ t }} * (dot(dp{{ t }}, vec4f(1.0)) - own_delta) * params.scale;
{% else %}
    let p{{ t }} = select(0.0, exp(s{{ t }} - log_sum[statistics + other{{ t }}]), j + {{ t }}u >= row && j + {{ t }}u < end);
    let ds{{ t }} = p{{ t }} * (dot(dp{{ t }}, vec4f(1.0)) - delta[statistics + other{{ t }}]) * params.scale;
{% endif %}
{% endfor %}
{% for d in range(NOPE4 + ROPE4) %}
{% for t in range(STREAM) %}
    da{{ d }} = fma(vec4f(ds{{ t }}), {{ side_a(d, "at" ~ t, false) }}, da{{ d }});
{% endfor %}
{% endfor %}
{% if SIDE == "key" %}
{% for d in range(V4) %}
{% for t in range(STREAM) %}
    db{{ d }} = fma(vec4f(p{{ t }}), {{ side_b(d, "at" ~ t, false) }}, db{{ d }});
{% endfor %}
{% endfor %}
{% endif %}
  }
  if (block * LANES + lane >= params.length) { return; }
  let to = own * params.heads + head;
{% if SIDE == "query" %}
{% for d in range(NOPE4 + ROPE4) %}
  store_d_q(to * QK4 + {{ d }}u, da{{ d }});
{% endfor %}
{% else %}
{% for d in range(NOPE4) %}
  store_d_kv(to * KV4 + {{ d }}u, da{{ d }});
{% endfor %}
{% for d in range(V4) %}
  store_d_kv(to * KV4 + NOPE4 + {{ d }}u, db{{ d }});
{% endfor %}
{% for d in range(ROPE4) %}
  store_d_kr(to * ROPE4 + {{ d }}u, da{{ NOPE4 + d }});
{% endfor %}
{% endif %}
}
