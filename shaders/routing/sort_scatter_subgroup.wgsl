// sort_scatter.wgsl with subgroups: every key of a block goes to its place, keys of equal digits in the order that they had.
//
// keys, order u32 [n] (FIRST: the order is 0, 1, …); counts u32 [RADIX, blocks], where the keys of a digit and a block begin among those of the digit;
// totals u32 [RADIX], how many keys have each digit; keys_out, order_out u32 [n].
//
// A workgroup does a block, each of its GROUPS subgroups ITEMS · SIZE consecutive keys of it, SIZE at a time: ballots, one a bit of the digit, tell an invocation
// which of the others hold its digit, and the first of those takes places for all in the subgroup's slot for it. The slots then become sums over the
// subgroups before. Bound by the scattered writes.

var<workgroup> slots: array<u32, GROUPS * RADIX>;

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) id: vec3u,
  @builtin(num_workgroups) count: vec3u,
  @builtin(local_invocation_index) invocation: u32,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let block = workgroup_number(id, count);
  if (block >= params.blocks) { return; }
  let group = invocation / SIZE;
  let own = group * RADIX;
  for (var i = invocation; i < GROUPS * RADIX; i += THREADS) { slots[i] = 0u; }
  workgroupBarrier();
  let first = block * params.block + group * ITEMS * SIZE + lane;
{% for i in range(ITEMS) %}
  let at{{ i }} = first + {{ i }}u * SIZE;
  let key{{ i }} = keys[min(at{{ i }}, params.n - 1u)];
{% endfor %}
{% for i in range(ITEMS) %}
  let slot{{ i }} = own + (key{{ i }} >> params.shift) % RADIX;
  var place{{ i }} = 0u;
  {
    let ok = at{{ i }} < params.n;
    var same = subgroupBallot(ok).x;
{% for bit in range(BITS) %}
    {
      let one = ((key{{ i }} >> (params.shift + {{ bit }}u)) & 1u) == 1u;
      let those = subgroupBallot(one).x;
      same &= select(~those, those, one);
    }
{% endfor %}
    let before = countOneBits(same & ((1u << lane) - 1u));
    if (ok && before == 0u) {
      place{{ i }} = slots[slot{{ i }}];
      slots[slot{{ i }}] = place{{ i }} + countOneBits(same);
    }
    place{{ i }} = subgroupShuffle(place{{ i }}, select(lane, firstTrailingBit(same), ok)) + before;
    // The next keys' slots are other invocations' to count on.
    workgroupBarrier();
  }
{% endfor %}
  for (var digit = invocation; digit < RADIX; digit += THREADS) {
    var sum = counts[digit * params.blocks + block];
    for (var d = 0u; d < digit; d++) { sum += totals[d]; }
    for (var g = 0u; g < GROUPS; g++) {
      let c = slots[g * RADIX + digit];
      slots[g * RADIX + digit] = sum;
      sum += c;
    }
  }
  workgroupBarrier();
{% for i in range(ITEMS) %}
  if (at{{ i }} < params.n) {
    let to = slots[slot{{ i }}] + place{{ i }};
    keys_out[to] = key{{ i }};
    order_out[to] = {{ "at" ~ i if FIRST else "order[at" ~ i ~ "]" }};
  }
{% endfor %}
}
