// Load balance of one axis, row by row: Σ_j f_j p_j with p the softmax of the row's scores, f_j the fraction of all kept experts that have sub-key j.
//
// s f32 [rows, stride] of one chunk; counts u32 [2, keys] (TOTAL: and the number of all kept experts after them, which fraction is one over otherwise); statistics f32 [2, all_rows, 4] from row params.first_row on: maximum, 1/Σ exp, Σ f p, and
// the row's part of the loss, weight · Σ f p. An invocation does a row. Bound by reading s twice.

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = workgroup_number(id, count) * WORKGROUP + lane;
  if (row >= params.rows) { return; }
  let start = row * params.stride;
  var most = s[start];
  for (var j = 1u; j < params.keys; j++) { most = max(most, s[start + j]); }
  var total = 0.0;
  var weighted = 0.0;
  for (var j = 0u; j < params.keys; j++) {
    let e = exp(s[start + j] - most);
    total += e;
    weighted += e * f32(counts[params.axis * params.keys + j]);
  }
  let mean = weighted * {{ "(1.0 / f32(counts[2u * params.keys]))" if TOTAL else "params.fraction" }} / total;
  store_statistics(params.axis * params.all_rows + params.first_row + row, vec4f(most, 1.0 / total, mean, mean * params.weight));
}
