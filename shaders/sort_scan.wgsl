// Radix sort, second step: counts [n] becomes its exclusive prefix sum, in place.
//
// One workgroup (software: one invocation) for all of it; an invocation sums a run of consecutive counts. Bound by latency: n is
// the number of keys over 128.

{% if SOFTWARE %}
@compute @workgroup_size(1)
fn main() {
  var sum = 0u;
  // 64 at a time: a software adapter may cut an invocation's loops short after 65,535 rounds in all.
  for (var i = 0u; i < params.n; i += 64u) {
{% for j in range(64) %}
    if (i + {{ j }}u < params.n) {
      let c = counts[i + {{ j }}u];
      counts[i + {{ j }}u] = sum;
      sum += c;
    }
{% endfor %}
  }
}
{% else %}
var<workgroup> sums: array<u32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) lane: u32) {
  let run = (params.n + 255u) / 256u;
  let first = min(lane * run, params.n);
  let last = min(first + run, params.n);
  var sum = 0u;
  for (var i = first; i < last; i++) { sum += counts[i]; }
  sums[lane] = sum;
  workgroupBarrier();
  for (var step = 1u; step < 256u; step *= 2u) {
    var before = 0u;
    if (lane >= step) { before = sums[lane - step]; }
    workgroupBarrier();
    sums[lane] += before;
    workgroupBarrier();
  }
  sum = sums[lane] - sum;
  for (var i = first; i < last; i++) {
    let c = counts[i];
    counts[i] = sum;
    sum += c;
  }
}
{% endif %}
