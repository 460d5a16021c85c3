// A matrix of any number of columns beside one whose rows are whole vec4s, between which kernels that read vec4s need a copy.
// MODE "pad": padded[r, c] = x[r, c], zero beyond the columns.    "take": x[r, c] = padded[r, c].    "add": x[r, c] += padded[r, c].
//
// x f32 [rows, columns]; padded f32 [rows, stride]. An invocation does a number. Bound by memory; such matrices are small.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * 64u + lane;
{% if MODE == "pad" %}
  if (i >= params.rows * params.stride) { return; }
  let column = i % params.stride;
  let at = i / params.stride * params.columns + min(column, params.columns - 1u);
  padded[i] = select(0.0, x[at], column < params.columns);
{% else %}
  if (i >= params.rows * params.columns) { return; }
  let v = padded[i / params.columns * params.stride + i % params.columns];
  x[i] = {{ "x[i] + " if MODE == "add" }}v;
{% endif %}
}
