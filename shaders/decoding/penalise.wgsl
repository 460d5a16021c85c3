// Makes tokens that were there less likely, in place: a positive logit is divided by the penalty, another one multiplied.
// z: [rows, V] with rows of `stride` vec4s; seen: [rows, words], a bit a token; options: [rows], see choose_token.ts.
// params: rows, stride, vectors (vec4s of a row that hold logits), words.
//
// An invocation takes a vec4. Bound by memory.

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let item = workgroup_number(id, count) * LANES + lane;
  let row = item / params.vectors;
  let i = item % params.vectors;
  if (row >= params.rows) { return; }
  let penalty = options[row].repetition_penalty;
  if (penalty == 1.0) { return; }
  let bits = seen[row * params.words + i / 8u] >> (i % 8u * 4u);
  if ((bits & 15u) == 0u) { return; }
  let at = row * params.stride + i;
  let z = load_z(at);
  let penalised = select(z * penalty, z / penalty, z > vec4f());
  store_z(at, select(z, penalised, (vec4u(bits) & vec4u(1u, 2u, 4u, 8u)) != vec4u()));
}
