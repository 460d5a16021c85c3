// Rows of tokens to padded rows of entries: out[r] = x[entry / TOP] of the entry of row r, zero where it has none. WEIGHTED: times weight[entry].
//
// source u32 [rows], the entry of each row or a number beyond all; x [T, width]; weight f32 [T · TOP]; out [rows, width]. params in vec4s. An invocation does a vec4. Bound by memory.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * 64u + lane;
  if (i >= params.rows * params.width) { return; }
  let entry = source[i / params.width];
  var v = vec4f();
  if (entry < params.entries) {
    v = {{ "weight[entry] * " if WEIGHTED }}load_x(entry / TOP * params.width + i % params.width);
  }
  store_out(i, v);
}
