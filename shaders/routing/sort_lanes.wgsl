// Radix sort, a whole pass over few keys, for processors that play GPU: what sort_count.wgsl, sort_scan.wgsl and sort_scatter.wgsl do one after the other.
//
// keys, order u32 [n] (FIRST: the order is 0, 1, …); counts u32 [params.digits, LANES], written; keys_out, order_out u32 [n]. The digit is bits params.shift … of a key, and
// params.digits, a power of two, the number of digits. BEGIN: digits are whole keys; begin u32 [bound + 1] gets the number of keys below each, as of sort_begin.wgsl.
//
// One subgroup of LANES invocations; a lane has a block of consecutive keys and a column of counts. The prefix sums of a digit go over the lanes by shuffles, so
// that no lane reads what another wrote. Bound by loads and stores of one number after the other.

fn slot_of(key: u32, lane: u32) -> u32 { return ((key >> params.shift) & (params.digits - 1u)) * LANES + lane; }

@compute @workgroup_size(LANES)
fn main(@builtin(subgroup_invocation_id) lane: u32) {
  let first = lane * params.block;
  let end = min(first + params.block, params.n);
  for (var d = 0u; d < params.digits; d++) { counts[d * LANES + lane] = 0u; }
  for (var i = first; i < end; i++) { counts[slot_of(keys[i], lane)] += 1u; }
  var base = 0u;
  for (var d = 0u; d < params.digits; d++) {
    let own = counts[d * LANES + lane];
    var sum = own;
{% for i in range(4) %}
{% if 2 ** i < LANES %}
    {
      let before = subgroupShuffle(sum, (lane + LANES - {{ 2 ** i }}u) % LANES);
      sum += select(0u, before, lane >= {{ 2 ** i }}u);
    }
{% endif %}
{% endfor %}
    counts[d * LANES + lane] = base + sum - own;
{% if BEGIN %}
    if (lane == 0u && d < params.bound) { begin[d] = base; }
{% endif %}
    base += subgroupShuffle(sum, LANES - 1u);
  }
{% if BEGIN %}
  if (lane == 0u) { begin[params.bound] = params.n; }
{% endif %}
  for (var i = first; i < end; i++) {
    let key = keys[i];
    let slot = slot_of(key, lane);
    let to = counts[slot];
    counts[slot] = to + 1u;
    keys_out[to] = key;
    order_out[to] = {{ "i" if FIRST else "order[i]" }};
  }
}
