// The likeliest tokens of a row, with their logits, and what its probabilities are made of.
// found[row] = Σ exp(z − z[first choice]), z[target], then as many pairs (token, z[token]) as are asked for; floats as their bits. A choice beyond the
// vocabulary is (0xffffffff, 0).
// z: [rows, V] with rows of `stride` vec4s; asked: [rows, 2] u32, a target (beyond the vocabulary: none, whose logit is 0) and a number of choices, at least 1;
// orders, tokens, sums: [rows, parts], of likeliest_parts.wgsl, the first two overwritten; found: [rows, width] u32.
// params: rows, vocabulary, stride, vectors, parts, width.
//
// A choice is the first one among those of the parts; then its part is searched for the next one. Rows and their invocations as in rows.wgsl.

fn in_order(a: vec2u, b: vec2u) -> vec2u { return select(b, a, comes_before(a, b)); }

{% if BY_ROW %}
fn reduce_choice(lane: u32, choice: vec2u) -> vec2u { return choice; }
{% else %}
var<workgroup> choices: array<vec2u, LANES>;

fn reduce_choice(lane: u32, choice: vec2u) -> vec2u {
  // The result of an earlier reduction may still be read.
  workgroupBarrier();
  choices[lane] = choice;
  workgroupBarrier();
  for (var width = LANES / 2u; width > 0u; width /= 2u) {
    if (lane < width) { choices[lane] = in_order(choices[lane], choices[lane + width]); }
    workgroupBarrier();
  }
  return choices[0];
}
{% endif %}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = row_of(workgroup_number(id, count), lane);
  if (row >= params.rows) { return; }
  let first = first_of(lane);
  let start = row * params.stride;
  let part_start = row * params.parts;
  let found_start = row * params.width;
  let target_id = asked[2u * row];
  let wanted = asked[2u * row + 1u];

  for (var k = 0u; k < wanted; k++) {
    var mine = NO_CHOICE;
    for (var p = first; p < params.parts; p += STRIDE) {
      mine = in_order(vec2u(orders[part_start + p], tokens[part_start + p]), mine);
    }
    let choice = reduce_choice(lane, mine);
    if (k == 0u) {
      var sum = 0.0;
      for (var p = first; p < params.parts; p += STRIDE) {
        sum += sums[part_start + p] * exp(logit_of(orders[part_start + p]) - logit_of(choice.x));
      }
      let total = reduce_sum(lane, sum);
      if (first == 0u) {
        found[found_start] = bitcast<u32>(total);
        let at = min(target_id, params.vocabulary - 1u);
        found[found_start + 1u] = select(0u, bitcast<vec4u>(load_z(start + at / 4u))[at % 4u], at == target_id);
      }
    }
    if (first == 0u) {
      let at = min(choice.y, params.vocabulary - 1u);
      found[found_start + 2u + 2u * k] = choice.y;
      found[found_start + 3u + 2u * k] = select(0u, bitcast<vec4u>(load_z(start + at / 4u))[at % 4u], choice.x > 0u);
    }
    if (k + 1u == wanted) { break; }

    let part = choice.y / 4u % params.parts;
    var next = NO_CHOICE;
    for (var i = part + first * params.parts; i < params.vectors; i += STRIDE * params.parts) {
      let bits = bitcast<vec4u>(load_z(start + i));
{% for c in range(4) %}
      {
        let other = vec2u(order_of(bits[{{ c }}]), 4u * i + {{ c }}u);
        let left = other.y < params.vocabulary && comes_before(choice, other);
        next = select(next, in_order(other, next), left);
      }
{% endfor %}
    }
    next = reduce_choice(lane, next);
    if (first == 0u) {
      orders[part_start + part] = next.x;
      tokens[part_start + part] = next.y;
    }
{% if not BY_ROW %}
    storageBarrier();
{% endif %}
  }
}
