// Additive beam search over axes, and the softmax over what is kept.
//
//   beams_0 = the best BEAMS[0] candidates of axis 0
//   beams_a = the best BEAMS[a] of the sums beam + candidate over all beams of axis a − 1 and all KEPT candidates of axis a
//
// value f32, id u32 [rows · AXES, KEPT]: a row's candidates on each axis, best first, before the temperature exp(logit_scale); logit_scale f32
// [groups], groups = H·AXES; coords u32 [·, TOP, AXES]: a · size + id; score f32 [·, TOP]: both from row params.first_row on, best first. A row is a token's routing head.
// Of equal sums the lower position beam · KEPT + candidate comes first.
//
// Beams and candidates are sorted, so (p+1)(c+1) − 1 pairs precede the pair (p, c): only pairs with (p+1)(c+1) ≤ BEAMS[a] can be kept. For 64
// beams and 32 candidates they are 274 of 2,048. A workgroup does a row and sorts them (bitonic.wgsl). Bound by the sort's steps.

var<workgroup> totals: array<f32, MOST>;
// Of each axis' beams the pair that they come from: beam · KEPT + candidate.
var<workgroup> pairs: array<u32, AXES * MOST>;
// Of the axis at hand the scores that can be part of a kept sum.
var<workgroup> own: array<f32, OWN>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = workgroup_number(group, count);
  if (row >= params.rows) { return; }
  let axes = row * AXES;
  for (var i = lane; i < {{ BEAMS[0] }}u; i += THREADS) {
    totals[i] = finite(value[axes * KEPT + i] * exp(logit_scale[axes % params.groups]));
    pairs[i] = i;
  }
{% for a in range(1, AXES) %}
  for (var i = lane; i < OWN; i += THREADS) {
    own[i] = value[(axes + {{ a }}u) * KEPT + i] * exp(logit_scale[(axes + {{ a }}u) % params.groups]);
  }
  workgroupBarrier();
  for (var p = lane; p < {{ BEAMS[a - 1] }}u; p += THREADS) {
    // Where the pairs of this beam begin.
    var at = 0u;
    for (var q = 0u; q < p; q++) { at += min(KEPT, {{ BEAMS[a] }}u / (q + 1u)); }
    let most = min(KEPT, {{ BEAMS[a] }}u / (p + 1u));
    for (var c = 0u; c < most; c++) {
      slot_value[at + c] = finite(totals[p] + own[c]);
      slot_key[at + c] = p * KEPT + c;
    }
  }
  for (var i = {{ PAIRS[a] }}u + lane; i < {{ SORTED[a] }}u; i += THREADS) {
    slot_value[i] = LOWEST;
    slot_key[i] = NONE;
  }
  sort_slots({{ SORTED[a] }}u, lane);
  for (var i = lane; i < {{ BEAMS[a] }}u; i += THREADS) {
    totals[i] = slot_value[i];
    pairs[{{ a }}u * MOST + i] = slot_key[i];
  }
  workgroupBarrier();
{% endfor %}
{% if AXES == 1 %}
  workgroupBarrier();
{% endif %}
  for (var j = lane; j < TOP; j += THREADS) {
    var sum = 0.0;
    for (var i = 0u; i < TOP; i++) { sum += exp(totals[i] - totals[0]); }
    let to = (params.first_row + row) * TOP + j;
    score[to] = exp(totals[j] - totals[0]) / sum;
    var beam = j;
{% for a in range(AXES - 1, 0, -1) %}
    {
      let pair = pairs[{{ a }}u * MOST + beam];
      coords[to * AXES + {{ a }}u] = {{ a }}u * params.size + id[(axes + {{ a }}u) * KEPT + pair % KEPT];
      beam = pair / KEPT;
    }
{% endfor %}
    coords[to * AXES] = id[axes * KEPT + beam];
  }
}
