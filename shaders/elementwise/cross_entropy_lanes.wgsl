// loss[t] = log Σ_v exp(z[t, v]) − z[t, target[t]], and z ← (softmax(z) − onehot(target)) · scale when GRADIENT, in place, for processors that play GPU.
//
// z, targets, losses, control, predictions and params as in cross_entropy.wgsl; rows and lanes as in norm_lanes.wgsl. WHOLE: the vocabulary fills the lanes' vectors.
// Lanes keep a row in registers, so that each logit is loaded once and has one exponential. Bound by those.

{% set vectors = range(VECTORS) %}
fn lanes_max(lane: u32, value: f32) -> f32 {
  var most = value;
{% for i in range(4) %}
{% if 2 ** i < LANES %}
  most = max(most, subgroupShuffle(most, lane ^ {{ 2 ** i }}u));
{% endif %}
{% endfor %}
  return most;
}

{% macro real(v, value, other) %}{{ value if WHOLE else "select(" ~ other ~ ", " ~ value ~ ", number" ~ v ~ " < vec4u(params.vocabulary))" }}{% endmacro %}
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let begin = workgroup_number(id, count) * params.block_rows;
{{ columns() }}
{% for v in vectors %}
  let number{{ v }} = 4u * (lane + {{ v * LANES }}u) + vec4u(0u, 1u, 2u, 3u);
{% endfor %}
  for (var row = begin; row < min(begin + params.block_rows, params.rows); row++) {
    let at = row * params.columns4;
    let target_id = targets[params.first + row];
    let predicted = target_id != 0xffffffffu;
    var mosts = vec4f(-3.4e38);
    var picked = vec4f();
{% for v in vectors %}
    let z{{ v }} = {{ real(v, "load_z(at + column" ~ v ~ ")", "vec4f(-3.4e38)") }};
    mosts = max(mosts, z{{ v }});
    picked += select(vec4f(), z{{ v }}, number{{ v }} == vec4u(target_id));
{% endfor %}
    let top = lanes_max(lane, max(max(mosts.x, mosts.y), max(mosts.z, mosts.w)));
    var sums = vec4f();
{% for v in vectors %}
    let e{{ v }} = {{ real(v, "exp(z" ~ v ~ " - top)", "vec4f()") }};
    sums += e{{ v }};
{% endfor %}
    let total = lanes_sum(lane, dot(sums, vec4f(1.0)));
    let loss = log(total) + top - lanes_sum(lane, dot(picked, vec4f(1.0)));
    if (lane == 0u) { losses[params.first + row] = select(0.0, loss, predicted); }
{% if GRADIENT %}
    let scale = select(0.0, params.scale * control.loss_scale{{ " / predictions[0]" if COUNTED }}, predicted);
    let share = scale / total;
{% for v in vectors %}
    {{ if_own(v) }} { store_z(at + column{{ v }}, e{{ v }} * share - select(vec4f(), vec4f(scale), number{{ v }} == vec4u(target_id))); }
{% endfor %}
{% endif %}
  }
}
