// beam_search.wgsl for software adapters: additive beam search over axes, and the softmax over what is kept.
//
// value f32, id u32 [rows · AXES, KEPT]; logit_scale f32 [groups]; coords u32 [·, TOP, AXES]; score f32 [·, TOP]: as there.
// pairs u32 [rows, AXES, LENGTH]: of each axis' beams the pair that they come from, beam · KEPT + candidate; read where it was written.
//
// An invocation does a row, by insertion into a sorted list of beams (insertion_direct.wgsl). Of the sums of a beam only those of its first
// candidates can be kept, and the first that is not kept ends them. Bound by the insertions.

// In memory that may be indexed: arrays of an invocation's own compile into a branch for each element.
var<workgroup> totals: array<f32, 8u * LENGTH>;

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = workgroup_number(group, count) * 8u + lane;
  if (row >= params.rows) { return; }
  var beams = 1u;
  let own_totals = lane * LENGTH;
  totals[own_totals] = 0.0;
  for (var axis = 0u; axis < AXES; axis++) {
    let own = (row * AXES + axis) * KEPT;
    let scale = exp(logit_scale[(row * AXES + axis) % params.groups]);
    let after = min(select(WIDTH, TOP, axis + 1u == AXES), beams * KEPT);
    clear_best();
    for (var p = 0u; p < beams; p++) {
      let most = min(KEPT, after / (p + 1u));
      for (var c = 0u; c < most; c++) {
        let sum = totals[own_totals + p] + value[own + c] * scale;
        if (!insert(finite(sum), p * KEPT + c)) { break; }
      }
    }
    beams = after;
{% for i in range(LENGTH) %}
    totals[own_totals + {{ i }}u] = best_value[{{ i }}];
    pairs[(row * AXES + axis) * LENGTH + {{ i }}u] = best_key[{{ i }}];
{% endfor %}
  }
  var sum = 0.0;
  for (var j = 0u; j < TOP; j++) { sum += exp(totals[own_totals + j] - totals[own_totals]); }
  for (var j = 0u; j < TOP; j++) {
    let to = (params.first_row + row) * TOP + j;
    score[to] = exp(totals[own_totals + j] - totals[own_totals]) / sum;
    var beam = j;
    for (var a = 0u; a < AXES; a++) {
      let axis = AXES - 1u - a;
      let pair = pairs[(row * AXES + axis) * LENGTH + beam];
      coords[to * AXES + axis] = axis * params.size + id[(row * AXES + axis) * KEPT + pair % KEPT];
      beam = pair / KEPT;
    }
  }
}
