// keys[r, c] = bits of (w[r, start + c] / u[start + c, start + c])², which are ordered as the numbers are, since none is negative.
//
// w: [rows, stride] f32; u: [.., stride] f32; keys: [rows, columns] u32. params: count (rows · columns), columns, start, stride (numbers).
// They are written once: computed again, their last bits might differ from one kernel to the next. An invocation does one. Bound by memory.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * 64u + lane;
  if (i >= params.count) { return; }
  let column = params.start + i % params.columns;
  let ratio = w[i / params.columns * params.stride + column] / u[column * params.stride + column];
  keys[i] = bitcast<u32>(ratio * ratio);
}
