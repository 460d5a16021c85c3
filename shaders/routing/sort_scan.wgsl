// Radix sort, second step: counts become exclusive prefix sums, in place.
//
// counts u32 [RADIX, blocks]. Software: of the whole, by one invocation. Otherwise of each row by a workgroup, four counts an invocation at a time, and
// totals u32 [RADIX] written, the rows' sums. Bound by latency: a row has a count for each block of keys.

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
fn main(@builtin(workgroup_id) id: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = id.x * params.blocks;
  var before = 0u;
  for (var base = 0u; base < params.blocks; base += 1024u) {
    let first = base + 4u * lane;
    var c = vec4u();
{% for i in range(4) %}
    if (first + {{ i }}u < params.blocks) { c[{{ i }}] = counts[row + first + {{ i }}u]; }
{% endfor %}
    let own = c.x + c.y + c.z + c.w;
    sums[lane] = own;
    workgroupBarrier();
    for (var step = 1u; step < 256u; step *= 2u) {
      var less = 0u;
      if (lane >= step) { less = sums[lane - step]; }
      workgroupBarrier();
      sums[lane] += less;
      workgroupBarrier();
    }
    let start = before + sums[lane] - own;
    let starts = start + vec4u(0u, c.x, c.x + c.y, c.x + c.y + c.z);
{% for i in range(4) %}
    if (first + {{ i }}u < params.blocks) { counts[row + first + {{ i }}u] = starts[{{ i }}]; }
{% endfor %}
    before += sums[255];
    // The sums were read by all before the next counts overwrite them.
    workgroupBarrier();
  }
  if (lane == 0u) { totals[id.x] = before; }
}
{% endif %}
