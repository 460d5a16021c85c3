// Batch norm, first stage: mean and sum of squared deviations of each feature over a chunk of rows.
//
// x [rows, width]; partial f32 [chunks, 2, width]: means, then sums of squared deviations. params.width in vec4s.
//
// An invocation does a chunk's rows of four features, eight rows at a time: their mean, what they deviate from it, and then both merged into what the
// rows before gave (Chan et al.), so that nothing cancels and x is read once. Bound by reading x.

struct Moments { n: f32, mean: vec4f, squares: vec4f }

fn merged(before: Moments, n: f32, mean: vec4f, squares: vec4f) -> Moments {
  let d = mean - before.mean;
  let total = before.n + n;
  return Moments(total, before.mean + d * (n / total), before.squares + squares + d * d * (before.n * n / total));
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * WORKGROUP + lane;
  if (i >= params.chunks * params.width) { return; }
  let chunk = i / params.width;
  let column = i % params.width;
  let end = min((chunk + 1u) * params.chunk, params.rows);
  var so_far = Moments(0.0, vec4f(), vec4f());
  var t = chunk * params.chunk;
  for (; t + 8u <= end; t += 8u) {
{% for r in range(8) %}
    let x{{ r }} = load_x((t + {{ r }}u) * params.width + column);
{% endfor %}
    let mean = 0.125 * (((x0 + x1) + (x2 + x3)) + ((x4 + x5) + (x6 + x7)));
    var squares = vec4f();
{% for r in range(8) %}
    squares += (x{{ r }} - mean) * (x{{ r }} - mean);
{% endfor %}
    so_far = merged(so_far, 8.0, mean, squares);
  }
  for (; t < end; t++) { so_far = merged(so_far, 1.0, load_x(t * params.width + column), vec4f()); }
  store_partial(2u * chunk * params.width + column, so_far.mean);
  store_partial((2u * chunk + 1u) * params.width + column, so_far.squares);
}
