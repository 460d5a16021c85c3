// p = softmax(scale · s) over the positions that a row's token sees, zero beyond: what each position counts in attention over the latent cache.
//
// s [rows, capacity] f32, p [rows, capacity], rows of both `width4` vec4s; row r is of token first + r / heads, which is at position[0] + token and
// sees the positions up to its own. Scores beyond those, and what pads a row, may be anything; p is written to the end of its rows.
//
// Rows and their invocations as in rows.wgsl. Two passes over what the token sees of the row. Bound by memory.

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = row_of(workgroup_number(id, count), lane);
  let first = first_of(lane);
  if (row >= params.rows) { return; }
  let visible = min(position[0] + params.first + row / params.heads + 1u, params.capacity);
  let visible4 = (visible + 3u) / 4u;
  let start = row * params.width4;
  let lanes = vec4u(0u, 1u, 2u, 3u);
  let lowest = vec4f(-3.0e38);

  // The sum is of exp(s − most), most the largest so far: when a larger one comes, it is scaled down.
  var most = lowest.x;
  var sums = vec4f();
  for (var i = first; i < visible4; i += STRIDE) {
    let seen = 4u * i + lanes < vec4u(visible);
    let known = select(lowest, params.scale * load_s(start + i), seen);
    let here = max(max(known.x, known.y), max(known.z, known.w));
    if (here > most) {
      sums *= exp(most - here);
      most = here;
    }
    sums += select(vec4f(), exp(known - most), seen);
  }
  let top = reduce_max(lane, most);
  let total = reduce_sum(lane, ((sums.x + sums.y) + (sums.z + sums.w)) * exp(most - top));

  for (var i = first; i < params.width4; i += STRIDE) {
    var probabilities = vec4f();
    if (i < visible4) {
      let seen = 4u * i + lanes < vec4u(visible);
      probabilities = select(vec4f(), exp(params.scale * load_s(start + i) - top) / total, seen);
    }
    store_p(start + i, probabilities);
  }
}
