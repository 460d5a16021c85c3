// Makes tokens that were there less likely, in place: a positive logit is divided by the penalty, another one multiplied.
// z: [V] in vec4s; seen: a bit a token; options: see choose_token.ts. params: vectors (vec4s that hold logits).
//
// An invocation takes a vec4. Bound by memory.

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * LANES + lane;
  let penalty = options.repetition_penalty;
  if (i >= params.vectors || penalty == 1.0) { return; }
  let bits = seen[i / 8u] >> (i % 8u * 4u);
  if ((bits & 15u) == 0u) { return; }
  let z = load_z(i);
  let penalised = select(z * penalty, z / penalty, z > vec4f());
  store_z(i, select(z, penalised, (vec4u(bits) & vec4u(1u, 2u, 4u, 8u)) != vec4u()));
}
