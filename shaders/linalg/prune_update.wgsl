// w[r, j] += Σ_i error[r, i] · u[start + i, j] for the columns j from `end`, where those do not begin with a whole vec4: for other blocks it is a product of gemm.
//
// w, u: [.., stride] f32; error: [rows, pitch] f32. params: rows, columns (of the block), start, end, inputs, stride, pitch (numbers).
// An invocation does one number. Bound by memory, which caches serve.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let number = workgroup_number(id, count) * 64u + lane;
  let rest = params.inputs - params.end;
  let row = number / rest;
  if (row >= params.rows) { return; }
  let column = params.end + number % rest;
  var sum = 0.0;
  for (var i = 0u; i < params.columns; i++) {
    sum = fma(error[row * params.pitch + i], u[(params.start + i) * params.stride + column], sum);
  }
  w[row * params.stride + column] += sum;
}
