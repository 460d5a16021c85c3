// routing_select.wgsl with a subgroup a row: the TOP best of the TOP × TOP sums of the TOP best sub-keys of each axis, and the softmax over the kept sums.
//
// s1, s2 f32 [rows, stride], the first params.keys numbers of a row count; index u32, score f32 [rows, TOP] from row params.first_row on, best first.
// Expert r·keys + c. Of equal scores the lower sub-key comes first, of equal sums the lower expert. A row is a token's routing head. params.stride in vec4s.
//
// SIZE invocations hold a row's scores in VALUES registers each, as whole numbers in the scores' order. The TOP-th best of the invocations' maxima is a bound
// that at least TOP scores reach and, of 512 scores and 16, some 22 do: those are brought together, one an invocation, and sorted by a bitonic network (15 exchanges
// for 32). Where more than SIZE reach it (many ties), TOP rounds through workgroup memory find and remove the largest instead. Of the pairs of ranks (a, b) only those with (a+1)(b+1) ≤ TOP can
// be kept, 50 for 16: OFFSETS has where each a's begin. They are sorted SIZE at a time and merged.
// Everything is exact, so the order in which it is done shows nowhere. Bound by reading the scores, once.

// NaN and minus infinity count as this, so that whatever happens the experts that come out exist.
const LOWEST = -3.4028234e38;

struct Best { value: u32, key: u32 }

// Sorts after every other entry.
const NONE = Best(0u, 0xffffffffu);

// A number as a whole number that compares as it does; never 0.
fn ordered(s: f32) -> u32 {
  let finite = select(LOWEST, s, s > LOWEST);
  // The two zeros are equal.
  let bits = bitcast<u32>(select(finite, 0.0, finite == 0.0));
  return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}

fn number(value: u32) -> f32 {
  return bitcast<f32>(select(~value, value & 0x7fffffffu, value >= 0x80000000u));
}

// Whether one comes before another: the larger one, of equal ones that with the lower key.
fn precedes(a: Best, b: Best) -> bool { return a.value > b.value || (a.value == b.value && a.key < b.key); }

{% set steps = [32, 16, 8, 4, 2, 1] %}
{% macro exchange(step, first) %}
  other = Best(subgroupShuffleXor(best.value, {{ step }}u), subgroupShuffleXor(best.key, {{ step }}u));
  if (precedes(other, best) == ({{ first }})) { best = other; }
{% endmacro %}

// The subgroup's entries in order, the best in the first invocation (LAST: in the last).
{% for name in ["best_first", "best_last"] %}
fn {{ name }}(own: Best, lane: u32) -> Best {
  var best = own;
  var other: Best;
{% for run in [2, 4, 8, 16, 32] if run <= SIZE %}
{% for step in steps if step < run %}
{{ exchange(step, "((lane & " ~ step ~ "u) == 0u) " ~ ("==" if name == "best_first" else "!=") ~ " ((lane & " ~ (run if run < SIZE else 0) ~ "u) == 0u)") }}
{% endfor %}
{% endfor %}
  return best;
}
{% endfor %}

// The same of a bitonic sequence: entries that rise and then fall, or the reverse.
fn merged(own: Best, lane: u32) -> Best {
  var best = own;
  var other: Best;
{% for step in steps if step < SIZE %}
{{ exchange(step, "(lane & " ~ step ~ "u) == 0u") }}
{% endfor %}
  return best;
}

// The subgroup's numbers, the largest in the first invocation.
fn largest_first(own: u32, lane: u32) -> u32 {
  var value = own;
  var other: u32;
{% for run in [2, 4, 8, 16, 32] if run <= SIZE %}
{% for step in steps if step < run %}
  other = subgroupShuffleXor(value, {{ step }}u);
  value = select(min(value, other), max(value, other), ((lane & {{ step }}u) == 0u) == ((lane & {{ run if run < SIZE else 0 }}u) == 0u));
{% endfor %}
{% endfor %}
  return value;
}

// Scores that reach the bound: of the first axis, then of the second.
var<workgroup> found: array<Best, 2u * ROWS * SIZE>;
// The last axis on which a row of the workgroup has more of them than there is room for.
var<workgroup> crowded: u32;

{% macro key(n) %}(4u * (lane + {{ n // 4 }}u * SIZE) + {{ n % 4 }}u){% endmacro %}

{% macro choose(axis) %}
  var best{{ axis }} = NONE;
  {
{% for n in range(VALUES) %}
    var v{{ n }} = select(0u, ordered(row{{ axis }}_{{ n // 4 }}[{{ n % 4 }}]), {{ key(n) }} < params.keys);
{% endfor %}
    var most = v0;
{% for n in range(1, VALUES) %}
    most = max(most, v{{ n }});
{% endfor %}
    let bound = max(1u, subgroupBroadcast(largest_first(most, lane), TOP - 1u));
    var reached = 0u;
{% for n in range(VALUES) %}
    reached += select(0u, 1u, v{{ n }} >= bound);
{% endfor %}
    let total = subgroupAdd(reached);
    var at = {{ axis - 1 }}u * ROWS * SIZE + slot * SIZE + subgroupExclusiveAdd(reached);
    if (total <= SIZE) {
{% for n in range(VALUES) %}
      if (v{{ n }} >= bound) {
        found[at] = Best(v{{ n }}, {{ key(n) }});
        at++;
      }
{% endfor %}
    }
    if (total > SIZE) { crowded = {{ axis }}u; }
    workgroupBarrier();
    // Without a branch, so that the subgroup is together when it sorts.
    let own = found[{{ axis - 1 }}u * ROWS * SIZE + slot * SIZE + lane];
    best{{ axis }}.value = select(0u, own.value, lane < total);
    best{{ axis }}.key = select(0xffffffffu, own.key, lane < total);
    best{{ axis }} = best_first(best{{ axis }}, lane);
    if (workgroupUniformLoad(&crowded) == {{ axis }}u) {
      // Through workgroup memory: not every compiler promises that a subgroup meets again in a loop.
      for (var round = 0u; round < TOP; round++) {
        var most = Best(v0, {{ key(0) }});
{% for n in range(1, VALUES) %}
        if (v{{ n }} > most.value) { most = Best(v{{ n }}, {{ key(n) }}); }
{% endfor %}
        found[slot * SIZE + lane] = most;
        workgroupBarrier();
        most = found[slot * SIZE];
{% for i in range(1, SIZE) %}
        if (precedes(found[slot * SIZE + {{ i }}u], most)) { most = found[slot * SIZE + {{ i }}u]; }
{% endfor %}
{% for n in range(VALUES) %}
        v{{ n }} = select(v{{ n }}, 0u, most.key == {{ key(n) }});
{% endfor %}
        if (total > SIZE && lane == round) { best{{ axis }} = most; }
        workgroupBarrier();
      }
    }
  }
{% endmacro %}

@compute @workgroup_size({{ ROWS * SIZE }})
fn main(
  @builtin(workgroup_id) id: vec3u,
  @builtin(num_workgroups) count: vec3u,
  @builtin(local_invocation_index) invocation: u32,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let first = workgroup_number(id, count) * ROWS;
  if (first >= params.rows) { return; }
  let slot = invocation / SIZE;
  let row = first + slot;
  // Rows beyond the last are the last once more, and are not written.
  let start = min(row, params.rows - 1u) * params.stride;
  let last = params.stride - 1u;
{% for axis in [1, 2] %}
{% for i in range(VALUES // 4) %}
  let row{{ axis }}_{{ i }} = load_s{{ axis }}(start + min(lane + {{ i }}u * SIZE, last));
{% endfor %}
{% endfor %}
{{ choose(1) }}
{{ choose(2) }}

  var chosen = NONE;
{% for r in range(CHUNKS) %}
  {
    let pair = lane + {{ r }}u * SIZE;
    var a = 0u;
    var begin = 0u;
{% for offset in OFFSETS if offset > 0 and offset < PAIRS and offset < (r + 1) * SIZE %}
    if (pair >= {{ offset }}u) { a++; begin = {{ offset }}u; }
{% endfor %}
    // Invocations without a pair still take part in the shuffles.
    let b = min(pair - begin, SIZE - 1u);
    let sum = max(number(subgroupShuffle(best1.value, a)) + number(subgroupShuffle(best2.value, b)), LOWEST);
    let expert = subgroupShuffle(best1.key, a) * params.keys + subgroupShuffle(best2.key, b);
    var own = NONE;
    if (pair < PAIRS) { own = Best(ordered(sum), expert); }
{% if r == 0 %}
    chosen = best_first(own, lane);
{% else %}
    // The better of the first and the last, of the second and the last but one …: the SIZE best of both, and bitonic.
    own = best_last(own, lane);
    if (precedes(own, chosen)) { chosen = own; }
    chosen = merged(chosen, lane);
{% endif %}
  }
{% endfor %}

  let weight = exp(number(chosen.value) - number(subgroupBroadcast(chosen.value, 0u)));
  var total = 0.0;
{% for j in range(TOP) %}
  total += subgroupBroadcast(weight, {{ j }}u);
{% endfor %}
  if (row < params.rows && lane < TOP) {
    let at = (params.first_row + row) * TOP + lane;
    index[at] = chosen.key;
    score[at] = weight / total;
  }
}
