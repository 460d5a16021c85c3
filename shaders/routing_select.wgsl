// The router's choice: the TOP best of the TOP × TOP sums of the TOP best sub-keys of each axis, and the softmax over the kept sums.
//
// s1, s2 f32 [rows, stride], the first params.keys numbers of a row count; index u32, score f32 [rows, TOP] from row params.first_row on, best first.
// Expert r·keys + c. Of equal scores the lower sub-key comes first, of equal sums the lower expert. A row is a token's routing head.
//
// A pair (a, b) of ranks has (a+1)(b+1) − 1 pairs that are at least as good, so only pairs with (a+1)(b+1) ≤ TOP can be kept. They are
// few (50 for TOP = 16), so each counts the pairs that beat it: that is its place.
//
// Software: an invocation does a row, keeping the best by insertion. Otherwise a workgroup of 128 does a row, 64 invocations an axis: each holds VALUES scores
// in registers, and TOP rounds find and remove the largest. Bound by reading the scores (software: by the scan).

// NaN and minus infinity count as this, so that whatever happens the experts that come out exist.
const LOWEST = -3.4028234e38;

fn finite(s: f32) -> f32 { return select(LOWEST, s, s > LOWEST); }

{% set SPACE = "private" if SOFTWARE else "workgroup" %}
// The best of both axes, then the best sums.
var<{{ SPACE }}> value1: array<f32, TOP>;
var<{{ SPACE }}> value2: array<f32, TOP>;
var<{{ SPACE }}> key1: array<u32, TOP>;
var<{{ SPACE }}> key2: array<u32, TOP>;
var<{{ SPACE }}> sums: array<f32, TOP>;
var<{{ SPACE }}> experts: array<u32, TOP>;

// Puts the pair of ranks a, b where it belongs, if it is kept.
fn place(a: u32, b: u32) {
  let sum = value1[a] + value2[b];
  let expert = key1[a] * params.keys + key2[b];
  var rank = 0u;
  for (var i = 0u; i < TOP && rank < TOP; i++) {
    let most = TOP / (i + 1u);
    for (var j = 0u; j < most; j++) {
      let other = value1[i] + value2[j];
      let better = other > sum || (other == sum && key1[i] * params.keys + key2[j] < expert);
      rank += select(0u, 1u, better);
    }
  }
  if (rank < TOP) {
    sums[rank] = sum;
    experts[rank] = expert;
  }
}

{% if SOFTWARE %}
{% for axis in [1, 2] %}
fn select{{ axis }}(row: u32) {
  for (var i = 0u; i < TOP; i++) {
    value{{ axis }}[i] = LOWEST;
    key{{ axis }}[i] = i;
  }
  for (var key = 0u; key < params.keys; key++) {
    let s = s{{ axis }}[row * params.stride + key];
    if (!(s > value{{ axis }}[TOP - 1u])) { continue; }
    var at = TOP - 1u;
    while (at > 0u && s > value{{ axis }}[at - 1u]) {
      value{{ axis }}[at] = value{{ axis }}[at - 1u];
      key{{ axis }}[at] = key{{ axis }}[at - 1u];
      at--;
    }
    value{{ axis }}[at] = s;
    key{{ axis }}[at] = key;
  }
}
{% endfor %}

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = workgroup_number(id, count) * 8u + lane;
  if (row >= params.rows) { return; }
  select1(row);
  select2(row);
  for (var a = 0u; a < TOP; a++) {
    let most = TOP / (a + 1u);
    for (var b = 0u; b < most; b++) { place(a, b); }
  }
  var total = 0.0;
  for (var j = 0u; j < TOP; j++) { total += exp(sums[j] - sums[0]); }
  for (var j = 0u; j < TOP; j++) {
    let at = (params.first_row + row) * TOP + j;
    index[at] = experts[j];
    score[at] = exp(sums[j] - sums[0]) / total;
  }
}
{% else %}
struct Best { value: f32, key: u32 }
var<workgroup> candidates: array<Best, 128>;
var<workgroup> finalists: array<Best, 16>;

fn better_of(a: Best, b: Best) -> Best {
  if (b.value > a.value || (b.value == a.value && b.key < a.key)) { return b; }
  return a;
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = workgroup_number(id, count);
  if (row >= params.rows) { return; }
  let axis = lane / 64u;
  let member = lane % 64u;
{% for i in range(VALUES) %}
  var v{{ i }} = LOWEST;
  if (member + {{ 64 * i }}u < params.keys) {
    let at = row * params.stride + member + {{ 64 * i }}u;
    if (axis == 0u) { v{{ i }} = finite(s1[at]); } else { v{{ i }} = finite(s2[at]); }
  }
{% endfor %}
  for (var round = 0u; round < TOP; round++) {
    var best = Best(v0, member);
{% for i in range(1, VALUES) %}
    if (v{{ i }} > best.value) { best = Best(v{{ i }}, member + {{ 64 * i }}u); }
{% endfor %}
    candidates[lane] = best;
    workgroupBarrier();
    if (member < 8u) {
      best = candidates[axis * 64u + member * 8u];
{% for i in range(1, 8) %}
      best = better_of(best, candidates[axis * 64u + member * 8u + {{ i }}u]);
{% endfor %}
      finalists[axis * 8u + member] = best;
    }
    workgroupBarrier();
    best = finalists[axis * 8u];
{% for i in range(1, 8) %}
    best = better_of(best, finalists[axis * 8u + {{ i }}u]);
{% endfor %}
{% for i in range(VALUES) %}
    if (best.key == member + {{ 64 * i }}u) { v{{ i }} = LOWEST; }
{% endfor %}
    if (lane == 0u) {
      value1[round] = best.value;
      key1[round] = best.key;
    } else if (lane == 64u) {
      value2[round] = best.value;
      key2[round] = best.key;
    }
  }
  workgroupBarrier();
  for (var pair = lane; pair < TOP * TOP; pair += 128u) {
    let a = pair / TOP;
    let b = pair % TOP;
    if ((a + 1u) * (b + 1u) <= TOP) { place(a, b); }
  }
  workgroupBarrier();
  if (lane < TOP) {
    var total = 0.0;
    for (var j = 0u; j < TOP; j++) { total += exp(sums[j] - sums[0]); }
    let at = (params.first_row + row) * TOP + lane;
    index[at] = experts[lane];
    score[at] = exp(sums[lane] - sums[0]) / total;
  }
}
{% endif %}
