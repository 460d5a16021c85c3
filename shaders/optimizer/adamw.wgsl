// AdamW on a flat chunk: m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g², p ← p (1 − lr λ) − lr (m / c₁) / (√(v / c₂) + ε),
// with g the stored gradient times control.multiplier (clipping and the loss scale in one). Where control.apply is 0 nothing changes.
// value, m, v: f32; gradient: f32; operand: the f16 copy of value (HALF). control: see ops/control.ts.
// params: count (vec4s), beta1, beta2, epsilon, decay (λ, 0 for the parameters that do not decay).
// An invocation updates one vec4. Bound by memory: 28 bytes read and written a parameter, 30 with the f16 copy.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * 64u + lane;
  if (i >= params.count || control.apply == 0.0) { return; }
  let lr = control.lr;
  let g = load_gradient(i) * control.multiplier;
  let m = params.beta1 * load_m(i) + (1.0 - params.beta1) * g;
  let v = params.beta2 * load_v(i) + (1.0 - params.beta2) * g * g;
  store_m(i, m);
  store_v(i, v);
  let kept = load_value(i) * (1.0 - lr * params.decay);
  let next = kept - lr * (m / control.correction1) / (sqrt(v / control.correction2) + params.epsilon);
  store_value(i, next);
{% if HALF %}
  store_operand(i, next);
{% endif %}
}
