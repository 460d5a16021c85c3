// Takes the digit in which the wanted rank falls: the prefix gets it, the rank becomes the rank within it, and the bins are zero again.
//
// bins: [256] u32; state: chosen key, chosen position, rank. DIGIT "key" or "position", FIRST the first digit of all, which takes params.rank.
// params: shift (the digit's lowest bit), rank (keys that come before the wanted one). When all keys come before it, the prefix gets the highest digit.
//
// One invocation, 256 rounds. Bound by latency.
@compute @workgroup_size(1)
fn main() {
{% if FIRST %}
  var rank = params.rank;
{% else %}
  var rank = state[2];
{% endif %}
  var digit = 255u;
  var found = false;
  for (var d = 0u; d < 256u; d++) {
    let n = bins[d];
    bins[d] = 0u;
    if (found) { continue; }
    if (rank < n) {
      digit = d;
      found = true;
    } else {
      rank -= n;
    }
  }
{% if DIGIT == "key" %}
  let before = select(state[0], 0u, params.shift == 24u);
  state[0] = before | (digit << params.shift);
  state[1] = 0u;
{% else %}
  state[1] = state[1] | (digit << params.shift);
{% endif %}
  state[2] = rank;
}
