// The nearest centroid of each row among those from `first` on, by sums of squared differences: expanded to products they would cancel.
//
// x: [rows, 4·width] f32; centroids: [.., 4·width] f32; label: u32 [rows]; distance: f32 [rows], squared. With KEEP rows keep what they have where no centroid of
// the range is nearer; otherwise the range alone counts. Of equal distances the lower centroid is taken.
// params: rows, width (vec4s), first, last (after the range).
//
// An invocation does one row, with two sums so that additions do not wait for each other. Bound by memory, or with many centroids by arithmetic.
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = workgroup_number(id, count) * WORKGROUP + lane;
  if (row >= params.rows) { return; }
{% if KEEP %}
  var least = distance[row];
  var best = label[row];
{% else %}
  var least = 0.0;
  var best = params.first;
{% endif %}
  for (var j = params.first; j < params.last; j++) {
    var even = vec4f();
    var odd = vec4f();
    let at = row * params.width;
    let centre = j * params.width;
    var i = 0u;
    for (; i + 1u < params.width; i += 2u) {
      let a = load_x(at + i) - load_centroids(centre + i);
      let b = load_x(at + i + 1u) - load_centroids(centre + i + 1u);
      even = fma(a, a, even);
      odd = fma(b, b, odd);
    }
    if (i < params.width) {
      let a = load_x(at + i) - load_centroids(centre + i);
      even = fma(a, a, even);
    }
    let sums = even + odd;
    let d = (sums.x + sums.y) + (sums.z + sums.w);
{% if KEEP %}
    if (d < least) {
{% else %}
    if (j == params.first || d < least) {
{% endif %}
      least = d;
      best = j;
    }
  }
  distance[row] = least;
  label[row] = best;
}
