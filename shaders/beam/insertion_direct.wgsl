// An invocation's own list of the LENGTH best pairs of a value and a key, best first: the larger value, of equal ones that with the lower key.
// Unrolled, so that the list stays in registers.

// NaN and minus infinity count as this, so that whatever happens the ids that come out exist.
const LOWEST = -3.4028234e38;
// The key of a place that holds nothing: after every other of its value.
const NONE = 0xffffffffu;

fn finite(s: f32) -> f32 { return select(LOWEST, s, s > LOWEST); }

var<private> best_value: array<f32, LENGTH>;
var<private> best_key: array<u32, LENGTH>;

fn clear_best() {
{% for i in range(LENGTH) %}
  best_value[{{ i }}] = LOWEST;
  best_key[{{ i }}] = NONE;
{% endfor %}
}

fn precedes(value: f32, key: u32, other: f32, other_key: u32) -> bool {
  return value > other || (value == other && key < other_key);
}

// Puts a pair where it belongs. False if that is nowhere.
fn insert(value: f32, key: u32) -> bool {
  if (!precedes(value, key, best_value[LENGTH - 1u], best_key[LENGTH - 1u])) { return false; }
  // Without branches, which compile slowly. Whether the pair precedes place i is known from the step before.
  var here = true;
{% for i in range(LENGTH - 1, 0, -1) %}
  {
    let below = precedes(value, key, best_value[{{ i - 1 }}], best_key[{{ i - 1 }}]);
    best_value[{{ i }}] = select(select(best_value[{{ i }}], value, here), best_value[{{ i - 1 }}], below);
    best_key[{{ i }}] = select(select(best_key[{{ i }}], key, here), best_key[{{ i - 1 }}], below);
    here = below;
  }
{% endfor %}
  best_value[0] = select(best_value[0], value, here);
  best_key[0] = select(best_key[0], key, here);
  return true;
}
