// Gradients of causal attention without workgroup memory, for software adapters.
//
// With s = q·k · scale, p = exp(s − log_sum), ds = p (d_o·v − delta) scale:
// DROPOUT, with factors f as in attention_forward_direct.wgsl: ds = p (f d_o·v − delta) scale, and f p for p in d_v.
// SIDE "query": d_q = Σ over keys of ds · k.   SIDE "key": d_k = Σ over queries of ds · q, d_v = Σ over queries of p · d_o.
//
// q, d_q [T, heads·(NOPE+ROPE)], kv, d_kv [T, heads·(NOPE+V)], kr [T, ROPE], d_kr [T, heads·ROPE] (a head's part of the shared key's
// gradient), o, d_o [T, heads·V], log_sum, delta [heads, T]; T = batch · length. Widths NOPE4, ROPE4, V4 are in vec4s; where ROPE4 is 0
// there are no kr and d_kr. The side of the queries writes delta = Σ over a head's columns of d_o · o, which that of the keys reads after it.
//
// An invocation owns ROWS rows (of queries or of keys), LANES apart, with their gradients in registers, and streams the other side's rows,
// STREAM at a time. Nothing is added to by two invocations. Bound by loads: a vec4 for 4 · ROWS products.
//
// SUBGROUPS: the workgroup is a subgroup, each invocation of which loads one of LANES rows of the other side, and shuffles hand them round.

const QK4 = NOPE4 + ROPE4;
const KV4 = NOPE4 + V4;

{% macro key(d, row) %}{% if d < NOPE4 %}load_kv(({{ row }} * params.heads + head) * KV4 + {{ d }}u){% else %}load_kr({{ row }} * ROPE4 + {{ d - NOPE4 }}u){% endif %}{% endmacro %}
{% macro side_a(d, row, own) %}{% if (SIDE == "query") == own %}load_q(({{ row }} * params.heads + head) * QK4 + {{ d }}u){% else %}{{ key(d, row) }}{% endif %}{% endmacro %}
{% macro side_b(d, row, own) %}{% if (SIDE == "query") == own %}load_d_o(({{ row }} * params.heads + head) * V4 + {{ d }}u){% else %}load_kv(({{ row }} * params.heads + head) * KV4 + NOPE4 + {{ d }}u){% endif %}{% endmacro %}
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, {{ "@builtin(subgroup_invocation_id)" if SUBGROUPS else "@builtin(local_invocation_index)" }} lane: u32) {
  let work = workgroup_number(id, count);
  let block = work % params.blocks;
  let head = work / params.blocks % params.heads;
  let sequence = work / params.blocks / params.heads;
  if (sequence >= params.batch) { return; }
  let first = sequence * params.length;
  let statistics = head * params.batch * params.length + first;
{% for r in range(ROWS) %}
  let row{{ r }} = min(block * LANES * ROWS + {{ r }}u * LANES + lane, params.length - 1u);
  let own{{ r }} = first + row{{ r }};
{% for d in range(NOPE4 + ROPE4) %}
  let a{{ r }}_{{ d }} = {{ side_a(d, "own" ~ r, true) }};
  var da{{ r }}_{{ d }} = vec4f();
{% endfor %}
{% for d in range(V4) %}
  let b{{ r }}_{{ d }} = {{ side_b(d, "own" ~ r, true) }};
{% if SIDE == "key" %}
  var db{{ r }}_{{ d }} = vec4f();
{% endif %}
{% endfor %}
{% if SIDE == "query" %}
  let own_log_sum{{ r }} = log_sum[statistics + row{{ r }}];
  var to_delta{{ r }} = vec4f();
{% for d in range(V4) %}
  to_delta{{ r }} = fma(b{{ r }}_{{ d }}, load_o((own{{ r }} * params.heads + head) * V4 + {{ d }}u), to_delta{{ r }});
{% endfor %}
  let own_delta{{ r }} = dot(to_delta{{ r }}, vec4f(1.0));
{% if DROPOUT %}
  let start{{ r }} = dropout_row(statistics + row{{ r }});
{% endif %}
{% endif %}
{% endfor %}
{% if SIDE == "query" %}
  let begin = 0u;
  let end = min((block + 1u) * LANES * ROWS, params.length);
{% else %}
  let begin = block * LANES * ROWS;
  let end = params.length;
{% endif %}
{% if SUBGROUPS %}
  for (var batch = begin; batch < end; batch += LANES) {
  let mine = min(batch + lane, end - 1u);
{% for d in range(NOPE4 + ROPE4) %}
  let my_x{{ d }} = {{ side_a(d, "(first + mine)", false) }};
{% endfor %}
{% for d in range(V4) %}
  let my_y{{ d }} = {{ side_b(d, "(first + mine)", false) }};
{% endfor %}
{% if SIDE == "key" %}
  let my_log_sum = log_sum[statistics + mine];
  let my_delta = delta[statistics + mine];
{% endif %}
  let batch_end = min(batch + LANES, end);
  for (var j = batch; j < batch_end; j += STREAM) {
{% else %}
  for (var j = begin; j < end; j += STREAM) {
{% endif %}
{% for t in range(STREAM) %}
    let other{{ t }} = min(j + {{ t }}u, {{ "batch_end" if SUBGROUPS else "end" }} - 1u);
{% if SUBGROUPS %}
    let from{{ t }} = other{{ t }} - batch;
{% else %}
    let at{{ t }} = first + other{{ t }};
{% endif %}
{% for r in range(ROWS) %}
    var dots{{ r }}_{{ t }} = vec4f();
    var dp{{ r }}_{{ t }} = vec4f();
{% endfor %}
{% for d in range(NOPE4 + ROPE4) %}
    let x{{ t }}_{{ d }} = {% if SUBGROUPS %}subgroupShuffle(my_x{{ d }}, from{{ t }}){% else %}{{ side_a(d, "at" ~ t, false) }}{% endif %};
{% for r in range(ROWS) %}
    dots{{ r }}_{{ t }} = fma(a{{ r }}_{{ d }}, x{{ t }}_{{ d }}, dots{{ r }}_{{ t }});
{% endfor %}
{% endfor %}
{% for d in range(V4) %}
    let y{{ t }}_{{ d }} = {% if SUBGROUPS %}subgroupShuffle(my_y{{ d }}, from{{ t }}){% else %}{{ side_b(d, "at" ~ t, false) }}{% endif %};
{% for r in range(ROWS) %}
    dp{{ r }}_{{ t }} = fma(b{{ r }}_{{ d }}, y{{ t }}_{{ d }}, dp{{ r }}_{{ t }});
{% endfor %}
{% endfor %}
{% if SIDE == "key" %}
    let other_log_sum{{ t }} = {{ "subgroupShuffle(my_log_sum, from" ~ t ~ ")" if SUBGROUPS else "log_sum[statistics + other" ~ t ~ "]" }};
    let other_delta{{ t }} = {{ "subgroupShuffle(my_delta, from" ~ t ~ ")" if SUBGROUPS else "delta[statistics + other" ~ t ~ "]" }};
{% if DROPOUT %}
    let start{{ t }} = dropout_row(statistics + other{{ t }});
{% endif %}
{% endif %}
{% for r in range(ROWS) %}
    let s{{ r }}_{{ t }} = dot(dots{{ r }}_{{ t }}, vec4f(1.0)) * params.scale;
{% if DROPOUT %}
    let f{{ r }}_{{ t }} = {% if SIDE == "query" %}dropout_factor(start{{ r }}, j + {{ t }}u){% else %}dropout_factor(start{{ t }}, row{{ r }}){% endif %};
{% endif %}
{% if SIDE == "query" %}
    let p{{ r }}_{{ t }} = select(0.0, exp(s{{ r }}_{{ t }} - own_log_sum{{ r }}), j + {{ t }}u <= row{{ r }});
    let ds{{ r }}_{{ t }} = p{{ r }}_{{ t }} * ({{ "f" ~ r ~ "_" ~ t ~ " * " if DROPOUT else "" }}dot(dp{{ r }}_{{ t }}, vec4f(1.0)) - own_delta{{ r }}) * params.scale;
{% else %}
    let p{{ r }}_{{ t }} = select(0.0, exp(s{{ r }}_{{ t }} - other_log_sum{{ t }}), j + {{ t }}u >= row{{ r }} && j + {{ t }}u < end);
    let ds{{ r }}_{{ t }} = p{{ r }}_{{ t }} * ({{ "f" ~ r ~ "_" ~ t ~ " * " if DROPOUT else "" }}dot(dp{{ r }}_{{ t }}, vec4f(1.0)) - other_delta{{ t }}) * params.scale;
{% endif %}
{% endfor %}
{% endfor %}
{% for r in range(ROWS) %}
{% for t in range(STREAM) %}
{% for d in range(NOPE4 + ROPE4) %}
    da{{ r }}_{{ d }} = fma(vec4f(ds{{ r }}_{{ t }}), x{{ t }}_{{ d }}, da{{ r }}_{{ d }});
{% endfor %}
{% if SIDE == "key" %}
{% for d in range(V4) %}
    db{{ r }}_{{ d }} = fma(vec4f(p{{ r }}_{{ t }}{{ " * f" ~ r ~ "_" ~ t if DROPOUT else "" }}), y{{ t }}_{{ d }}, db{{ r }}_{{ d }});
{% endfor %}
{% endif %}
{% endfor %}
{% endfor %}
  }
{% if SUBGROUPS %}
  }
{% endif %}
{% for r in range(ROWS) %}
  if (block * LANES * ROWS + {{ r }}u * LANES + lane < params.length) {
    let to = own{{ r }} * params.heads + head;
{% if SIDE == "query" %}
    delta[statistics + row{{ r }}] = own_delta{{ r }};
{% for d in range(NOPE4 + ROPE4) %}
    store_d_q(to * QK4 + {{ d }}u, da{{ r }}_{{ d }});
{% endfor %}
{% else %}
{% for d in range(NOPE4) %}
    store_d_kv(to * KV4 + {{ d }}u, da{{ r }}_{{ d }});
{% endfor %}
{% for d in range(V4) %}
    store_d_kv(to * KV4 + NOPE4 + {{ d }}u, db{{ r }}_{{ d }});
{% endfor %}
{% for d in range(ROPE4) %}
    store_d_kr(to * ROPE4 + {{ d }}u, da{{ r }}_{{ NOPE4 + d }});
{% endfor %}
{% endif %}
  }
{% endfor %}
}
