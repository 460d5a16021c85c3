// The router's choice: the TOP best of the TOP × TOP sums of the TOP best sub-keys of each axis, and the softmax over the kept sums.
//
// s1, s2 f32 [rows, stride], the first params.keys numbers of a row count; index u32, score f32 [rows, TOP] from row params.first_row on, best first.
// Expert r·keys + c. Of equal scores the lower sub-key comes first, of equal sums the lower expert. A row is a token's routing head.
//
// A pair (a, b) of ranks has (a+1)(b+1) − 1 pairs that are at least as good, so only pairs with (a+1)(b+1) ≤ TOP can be kept. They are
// few: 50 for TOP = 16.
//
// Software: an invocation does a row, keeping the best by insertion into sorted lists. Otherwise a workgroup of 128 does a row, 64 invocations an axis: each holds VALUES scores
// in registers, and TOP rounds find and remove the largest; then each pair counts the pairs that beat it, which is its place. Bound by reading the scores (software: by the scan).

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

fn sum_of(a: u32, b: u32) -> f32 { return max(value1[a] + value2[b], LOWEST); }

fn expert_of(a: u32, b: u32) -> u32 { return key1[a] * params.keys + key2[b]; }

// Whether a value comes before another: the larger one, of equal ones that with the lower key.
fn precedes(value: f32, key: u32, other: f32, other_key: u32) -> bool {
  return value > other || (value == other && key < other_key);
}

{% if SOFTWARE %}
// Puts a value where it belongs in a list of the best, if it does. Unrolled: a software adapter may cut an invocation's loops short after
// 65,535 rounds in all.
{% macro insert(values, keys, value, key) %}
  if (precedes({{ value }}, {{ key }}, {{ values }}[TOP - 1u], {{ keys }}[TOP - 1u])) {
    var open = true;
{% for i in range(TOP - 1, 0, -1) %}
    if (open) {
      let shift = precedes({{ value }}, {{ key }}, {{ values }}[{{ i - 1 }}], {{ keys }}[{{ i - 1 }}]);
      {{ values }}[{{ i }}] = select({{ value }}, {{ values }}[{{ i - 1 }}], shift);
      {{ keys }}[{{ i }}] = select({{ key }}, {{ keys }}[{{ i - 1 }}], shift);
      open = shift;
    }
{% endfor %}
    if (open) {
      {{ values }}[0] = {{ value }};
      {{ keys }}[0] = {{ key }};
    }
  }
{% endmacro %}
fn insert_sum(sum: f32, expert: u32) {
{{ insert("sums", "experts", "sum", "expert") }}
}

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = workgroup_number(id, count) * 8u + lane;
  if (row >= params.rows) { return; }
  for (var i = 0u; i < TOP; i++) {
    value1[i] = LOWEST;
    value2[i] = LOWEST;
    sums[i] = LOWEST;
    // Whatever exists comes before it.
    key1[i] = 0xffffffffu;
    key2[i] = 0xffffffffu;
    experts[i] = 0xffffffffu;
  }
  for (var key = 0u; key < params.keys; key++) {
    let a = finite(s1[row * params.stride + key]);
    let b = finite(s2[row * params.stride + key]);
{{ insert("value1", "key1", "a", "key") }}
{{ insert("value2", "key2", "b", "key") }}
  }
  for (var a = 0u; a < TOP; a++) {
    let most = TOP / (a + 1u);
    for (var b = 0u; b < most; b++) { insert_sum(sum_of(a, b), expert_of(a, b)); }
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
// Puts the pair of ranks a, b where it belongs, if it is kept.
fn place(a: u32, b: u32) {
  let sum = sum_of(a, b);
  let expert = expert_of(a, b);
  var rank = 0u;
  for (var i = 0u; i < TOP && rank < TOP; i++) {
    let most = TOP / (i + 1u);
    for (var j = 0u; j < most; j++) {
      rank += select(0u, 1u, precedes(sum_of(i, j), expert_of(i, j), sum, expert));
    }
  }
  if (rank < TOP) {
    sums[rank] = sum;
    experts[rank] = expert;
  }
}

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
