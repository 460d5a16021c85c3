// x[t] = E[token[t]] for the tokens whose row lies in this part of the table.
// tokens: [T] u32; e: [part rows, D]; x: [T, D] f32. params: tokens, width (vec4s), first (first row of the part), rows.
// Tokens of other parts are left alone, so that a dispatch a part fills x. An invocation moves one vec4. Bound by memory.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * 64u + lane;
  if (i >= params.tokens * params.width) { return; }
  let token = tokens[i / params.width];
  if (token < params.first || token - params.first >= params.rows) { return; }
  store_x(i, load_e((token - params.first) * params.width + i % params.width));
}
