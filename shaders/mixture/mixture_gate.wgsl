// The experts that a token keeps, best first, and their weights.
//
// logits f32 [T, stride], of which the first params.experts count. Kept are the TOP best; of equal logits the lower expert comes first.
// TOP_P: of these only the first ones, at least one, whose softmax over all experts comes to params.top_p; the others get no weight.
// WEIGHT "softmax": over the kept logits.    "probability": the softmax over all experts, with TOP 1.
// Written: index u32 [T, TOP]; TOP_P: keys u32 [T, TOP], which has params.experts in the place of those that are not kept; weight f32 [T, TOP].
// GIVEN: keys are read, and nothing is chosen.
//
// An invocation does a token: a sorted list in registers, unrolled by text. Bound by reading the logits.

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let token = workgroup_number(id, count) * WORKGROUP + lane;
  if (token >= params.tokens) { return; }
  let at = token * params.stride;
  let to = token * TOP;
{% for j in range(TOP) %}
{% if GIVEN %}
  let expert{{ j }} = keys[to + {{ j }}u];
  let kept{{ j }} = expert{{ j }} < params.experts;
  let value{{ j }} = logits[at + min(expert{{ j }}, params.experts - 1u)];
{% else %}
  var value{{ j }} = -3.4e38;
  var expert{{ j }} = {{ j }}u;
{% endif %}
{% endfor %}
{% if not GIVEN %}
  for (var e = 0u; e < params.experts; e++) {
    var value = logits[at + e];
    var expert = e;
    // From where the new one is better, each makes room for the one before it.
    var better = false;
{% for j in range(TOP) %}
    better = better || value > value{{ j }};
    if (better) {
      let v = value{{ j }};
      let n = expert{{ j }};
      value{{ j }} = value;
      expert{{ j }} = expert;
      value = v;
      expert = n;
    }
{% endfor %}
  }
{% endif %}
{% if WEIGHT == "probability" or (TOP_P and not GIVEN) %}
  var most = value0;
{% if GIVEN %}
  for (var e = 0u; e < params.experts; e++) { most = max(most, logits[at + e]); }
{% endif %}
  var all = 0.0;
  for (var e = 0u; e < params.experts; e++) { all += exp(logits[at + e] - most); }
{% endif %}
{% if not GIVEN %}
{% for j in range(TOP) %}
{% if TOP_P and j > 0 %}
  // The probabilities before it are not enough yet.
  let before{{ j }} = before{{ j - 1 }} + exp(value{{ j - 1 }} - most) / all;
  let kept{{ j }} = before{{ j }} < params.top_p;
{% else %}
  let kept{{ j }} = true;
{% if TOP_P %}
  let before0 = 0.0;
{% endif %}
{% endif %}
  index[to + {{ j }}u] = expert{{ j }};
{% if TOP_P %}
  keys[to + {{ j }}u] = select(params.experts, expert{{ j }}, kept{{ j }});
{% endif %}
{% endfor %}
{% endif %}
{% if WEIGHT == "probability" %}
  weight[to] = exp(value0 - most) / all;
{% else %}
  // Kept are the first ones, but a given choice may be in any order.
  var largest = value0;
{% if GIVEN %}
{% for j in range(TOP) %}
  largest = max(largest, select(largest, value{{ j }}, kept{{ j }}));
{% endfor %}
{% endif %}
  var sum = 0.0;
{% for j in range(TOP) %}
  let share{{ j }} = select(0.0, exp(value{{ j }} - largest), kept{{ j }});
  sum += share{{ j }};
{% endfor %}
{% for j in range(TOP) %}
  weight[to + {{ j }}u] = share{{ j }} / sum;
{% endfor %}
{% endif %}
}
