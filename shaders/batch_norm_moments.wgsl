// Batch norm, first stage: mean and sum of squared deviations of each feature over a chunk of rows.
//
// x [rows, width]; partial f32 [chunks, 2, width]: means, then sums of squared deviations. params.width in vec4s.
//
// An invocation reads the chunk's rows of four features twice, first for the mean, so that nothing cancels. Bound by reading x.

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * WORKGROUP + lane;
  if (i >= params.chunks * params.width) { return; }
  let chunk = i / params.width;
  let column = i % params.width;
  let start = chunk * params.chunk;
  let end = min(start + params.chunk, params.rows);
  var sum = vec4f();
  for (var t = start; t < end; t++) { sum += load_x(t * params.width + column); }
  let mean = sum / f32(end - start);
  var squares = vec4f();
  for (var t = start; t < end; t++) {
    let d = load_x(t * params.width + column) - mean;
    squares += d * d;
  }
  store_partial(2u * chunk * params.width + column, mean);
  store_partial((2u * chunk + 1u) * params.width + column, squares);
}
