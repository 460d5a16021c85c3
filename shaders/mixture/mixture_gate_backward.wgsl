// Gradient of a gate's logits, from that of the kept experts' weights. The choice is not differentiated.
//
// WEIGHT "softmax": dlogits_j = w_j (dw_j − Σ_i w_i dw_i) of a kept expert, zero of the others.    "probability": dlogits_e = w dw (1 where e is kept, − p_e), p the softmax over all.
// BALANCE: + params.balance · loss_scale · p_e (f_e − Σ_i f_i p_i), f_e the share of the kept slots that are e's; loss_scale only where it is SCALED.
// logits f32 [T, stride]; keys u32 [T, TOP], params.experts or more where none is kept; weight, dweight f32 [T, TOP]; begin u32 [experts + 1 or more], where each expert's slots begin
// among the sorted ones; dlogits f32 [T, stride] as vec4s, zero beyond the experts. An invocation does a token. Bound by memory.

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let token = workgroup_number(id, count) * WORKGROUP + lane;
  if (token >= params.tokens) { return; }
  let at = token * params.stride;
  let first = token * TOP;
  var mean = 0.0;
{% for j in range(TOP) %}
  let expert{{ j }} = keys[first + {{ j }}u];
  let product{{ j }} = weight[first + {{ j }}u] * dweight[first + {{ j }}u];
  mean += product{{ j }};
{% endfor %}
{% for j in range(TOP) %}
{% if WEIGHT == "probability" %}
  let slope{{ j }} = product{{ j }};
{% else %}
  let slope{{ j }} = product{{ j }} - weight[first + {{ j }}u] * mean;
{% endif %}
{% endfor %}
{% if BALANCE or WEIGHT == "probability" %}
  var most = logits[at];
  for (var e = 1u; e < params.experts; e++) { most = max(most, logits[at + e]); }
  var all = 0.0;
{% if BALANCE %}
  var along = 0.0;
{% endif %}
  for (var e = 0u; e < params.experts; e++) {
    let p = exp(logits[at + e] - most);
    all += p;
{% if BALANCE %}
    along += p * f32(begin[e + 1u] - begin[e]);
{% endif %}
  }
{% endif %}
{% if BALANCE %}
  let share = 1.0 / f32(begin[params.experts]);
  let balance = params.balance{{ " * control.loss_scale" if SCALED }};
{% endif %}
  for (var four = 0u; four < params.stride / 4u; four++) {
    var out = vec4f();
{% for i in range(4) %}
    {
      let e = 4u * four + {{ i }}u;
      if (e < params.experts) {
        var v = 0.0;
{% for j in range(TOP) %}
        v += select(0.0, slope{{ j }}, e == expert{{ j }});
{% endfor %}
{% if BALANCE or WEIGHT == "probability" %}
        let p = exp(logits[at + e] - most) / all;
{% endif %}
{% if WEIGHT == "probability" %}
        v -= mean * p;
{% endif %}
{% if BALANCE %}
        v += balance * p * share * (f32(begin[e + 1u] - begin[e]) - along / all);
{% endif %}
        out[{{ i }}] = v;
      }
    }
{% endfor %}
    store_dlogits(token * params.stride / 4u + four, out);
  }
}
