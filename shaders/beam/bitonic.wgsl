// A workgroup sorts SLOTS pairs of a value and a key in its memory, best first: the larger value, of equal ones that with the lower key.
// A bitonic network: n · log²(n) / 4 comparisons, and a barrier for each of its log²(n) / 2 steps.

// NaN and minus infinity count as this, so that whatever happens the ids that come out exist.
const LOWEST = -3.4028234e38;
// The key of a slot that holds nothing: after every other of its value.
const NONE = 0xffffffffu;

fn finite(s: f32) -> f32 { return select(LOWEST, s, s > LOWEST); }

var<workgroup> slot_value: array<f32, SLOTS>;
var<workgroup> slot_key: array<u32, SLOTS>;

// Sorts the first n slots, n a power of two that is the same in all invocations. Slots may be written right before and read right after.
fn sort_slots(n: u32, lane: u32) {
  for (var run = 2u; run <= n; run *= 2u) {
    for (var step = run / 2u; step > 0u; step /= 2u) {
      workgroupBarrier();
      for (var i = lane; i < n / 2u; i += THREADS) {
        let a = i / step * 2u * step + i % step;
        let b = a + step;
        let value_a = slot_value[a];
        let value_b = slot_value[b];
        let key_a = slot_key[a];
        let key_b = slot_key[b];
        let b_first = value_b > value_a || (value_b == value_a && key_b < key_a);
        if (b_first == ((a & run) == 0u)) {
          slot_value[a] = value_b;
          slot_value[b] = value_a;
          slot_key[a] = key_b;
          slot_key[b] = key_a;
        }
      }
    }
  }
  workgroupBarrier();
}
