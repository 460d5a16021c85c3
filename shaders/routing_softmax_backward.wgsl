// Backward of the softmax over a row's kept sums: dtotal_j = score_j · (dscore_j − Σ_i score_i dscore_i).
//
// score, dscore, dtotal f32 [rows, top]. An invocation does a row. Bound by memory.

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = workgroup_number(id, count) * WORKGROUP + lane;
  if (row >= params.rows) { return; }
  var mean = 0.0;
  for (var j = row * params.top; j < (row + 1u) * params.top; j++) { mean += score[j] * dscore[j]; }
  for (var j = row * params.top; j < (row + 1u) * params.top; j++) { dtotal[j] = score[j] * (dscore[j] - mean); }
}
