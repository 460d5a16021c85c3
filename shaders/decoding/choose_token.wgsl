// Chooses the next token from each row of logits: the most likely one, or a draw from those that top-k, min-p and top-p leave.
// z: [rows, V] with rows of `stride` vec4s; orders, tokens: [rows, parts], of likeliest_parts.wgsl; options: [rows], see choose_token.ts;
// seen: [rows, words], a bit a token, the chosen one's is set; token: [rows], chosen: [rows, 2], the token and the bits of its logit. A logit that is not
// finite is chosen before all others. params: rows, vocabulary, stride, vectors (vec4s of a row that hold logits), parts, words.
//
// Tokens have an order (logit_order.wgsl). Candidates are those up to `boundary` in it whose weight, the probability relative to the most likely
// token's, is at least `least`. Each question is where a sum over candidates, of ones or of weights, passes a goal: by falling logits for top-k, top-p
// and the draw after top-p, by rising token for the other draws. Rounding may leave a sum below its goal; the last candidate is the answer then.
//
// A row has one workgroup: every sum has one order, so the same row gives the same token. Bound by the latency of its passes over the row, which the cache holds.

// First vec4 of the row, and its options.
var<private> row_start: u32;
var<private> way: Options;
var<private> best: vec2u;
var<private> boundary: vec2u;
var<private> least: f32;

var<workgroup> choices: array<vec2u, LANES>;
var<workgroup> sums: array<f32, LANES>;
var<workgroup> low_sums: array<vec4f, LANES>;
var<workgroup> high_sums: array<vec4f, LANES>;

fn in_order(a: vec2u, b: vec2u) -> vec2u { return select(b, a, comes_before(a, b)); }

fn reduce_choice(lane: u32, choice: vec2u) -> vec2u {
  choices[lane] = choice;
  workgroupBarrier();
  for (var width = LANES / 2u; width > 0u; width /= 2u) {
    if (lane < width) { choices[lane] = in_order(choices[lane], choices[lane + width]); }
    workgroupBarrier();
  }
  return choices[0];
}

fn weight_of(order: u32) -> f32 {
  return select(exp((logit_of(order) - logit_of(best.x)) / way.temperature), 1.0, order == best.x);
}

// The weight of a candidate, or 1 when they are counted; 0 of other tokens.
fn value_of(choice: vec2u, counting: bool) -> f32 {
  let weight = weight_of(choice.x);
  let candidate = choice.y < params.vocabulary && weight >= least && !comes_before(boundary, choice);
  return select(0.0, select(weight, 1.0, counting), candidate);
}

fn total_weight(lane: u32) -> f32 {
  var sum = 0.0;
  for (var i = lane; i < params.vectors; i += LANES) {
    let bits = bitcast<vec4u>(load_z(row_start + i));
    let a = value_of(vec2u(order_of(bits.x), 4u * i), false) + value_of(vec2u(order_of(bits.y), 4u * i + 1u), false);
    let b = value_of(vec2u(order_of(bits.z), 4u * i + 2u), false) + value_of(vec2u(order_of(bits.w), 4u * i + 3u), false);
    sum += a + b;
  }
  // The result of an earlier question may still be read.
  workgroupBarrier();
  sums[lane] = sum;
  workgroupBarrier();
  for (var width = LANES / 2u; width > 0u; width /= 2u) {
    if (lane < width) { sums[lane] += sums[lane + width]; }
    workgroupBarrier();
  }
  return sums[0];
}

// The first token by number at which the sum is above `goal`; where `order` is not 0, among those of this order.
fn reach_by_number(lane: u32, goal: f32, order: u32) -> u32 {
  let counting = order != 0u;
  var step = params.vectors;
  var start = 0u;
  var end = params.vectors;
  var sum = 0.0;
  while (step > 1u) {
    step = (step + LANES - 1u) / LANES;
    var own = 0.0;
    let own_end = min(end, start + (lane + 1u) * step);
    for (var i = start + lane * step; i < own_end; i++) {
      let bits = bitcast<vec4u>(load_z(row_start + i));
{% for c in range(4) %}
      {
        let choice = vec2u(order_of(bits[{{ c }}]), 4u * i + {{ c }}u);
        own += select(0.0, value_of(choice, counting), !counting || choice.x == order);
      }
{% endfor %}
    }
    workgroupBarrier();
    sums[lane] = own;
    workgroupBarrier();
    var part = 0u;
    var after = sum;
    for (var p = 0u; p < LANES; p++) {
      if (sums[p] > 0.0 && after <= goal) {
        part = p;
        sum = after;
        after += sums[p];
      }
    }
    start += part * step;
    end = min(end, start + step);
  }
  var token = 4u * start;
  let bits = bitcast<vec4u>(load_z(row_start + start));
  for (var c = 0u; c < 4u; c++) {
    let choice = vec2u(order_of(bits[c]), 4u * start + c);
    let own = select(0.0, value_of(choice, counting), !counting || choice.x == order);
    if (own > 0.0 && sum <= goal) {
      token = choice.y;
      sum += own;
    }
  }
  return token;
}

// The first candidate by falling logits, equals by number, at which the sum is above `goal`, or equal to it where `inclusive`. The bits of its order are
// found by threes: each of their eight values has a sum.
fn reach_by_logit(lane: u32, goal: f32, counting: bool, inclusive: bool) -> vec2u {
  var order = 0u;
  var known = 0u;
  var sum = 0.0;
  for (var k = 0u; k < 11u; k++) {
    let shift = 30u - 3u * k;
    var low = vec4f();
    var high = vec4f();
    for (var i = lane; i < params.vectors; i += LANES) {
      let bits = bitcast<vec4u>(load_z(row_start + i));
{% for c in range(4) %}
      {
        let choice = vec2u(order_of(bits[{{ c }}]), 4u * i + {{ c }}u);
        let value = select(0.0, value_of(choice, counting), (choice.x & known) == order);
        let digit = vec4u((choice.x >> shift) & 7u);
        low += select(vec4f(), vec4f(value), digit == vec4u(0u, 1u, 2u, 3u));
        high += select(vec4f(), vec4f(value), digit == vec4u(4u, 5u, 6u, 7u));
      }
{% endfor %}
    }
    workgroupBarrier();
    low_sums[lane] = low;
    high_sums[lane] = high;
    workgroupBarrier();
    for (var width = LANES / 2u; width > 0u; width /= 2u) {
      if (lane < width) {
        low_sums[lane] += low_sums[lane + width];
        high_sums[lane] += high_sums[lane + width];
      }
      workgroupBarrier();
    }
    var digit = 0u;
    var after = sum;
    for (var d = 8u; d > 0u;) {
      d--;
      let own = select(low_sums[0][d % 4u], high_sums[0][d % 4u], d >= 4u);
      if (own > 0.0 && (after < goal || (after == goal && !inclusive))) {
        digit = d;
        sum = after;
        after += own;
      }
    }
    order |= digit << shift;
    known |= 7u << shift;
  }
  // Of equals so many are needed; a sum of halves has no rounding.
  let needed = (goal - sum) / select(weight_of(order), 1.0, counting);
  let wanted = max(1.0, select(floor(needed) + 1.0, ceil(needed), inclusive));
  return vec2u(order, reach_by_number(lane, wanted - 0.5, order));
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = workgroup_number(id, count);
  if (row >= params.rows) { return; }
  row_start = row * params.stride;
  way = options[row];
  let part_start = row * params.parts;
  var mine = NO_CHOICE;
  for (var p = lane; p < params.parts; p += LANES) { mine = in_order(vec2u(orders[part_start + p], tokens[part_start + p]), mine); }
  best = reduce_choice(lane, mine);
  boundary = NO_CHOICE;
  least = 0.0;

  var choice = best.y;
  if (options[row].draws > 0.0) {
    if (options[row].top_k > 0.0) { boundary = reach_by_logit(lane, options[row].top_k - 0.5, true, false); }
    least = options[row].min_p;
    if (options[row].nucleus > 0.0) {
      boundary = reach_by_logit(lane, options[row].top_p * total_weight(lane), false, true);
      choice = reach_by_logit(lane, options[row].draw * total_weight(lane), false, false).y;
    } else {
      choice = reach_by_number(lane, options[row].draw * total_weight(lane), 0u);
    }
  }
  if (lane > 0u) { return; }
  let next = min(select(choice, best.y, best.x == BROKEN), params.vocabulary - 1u);
  token[row] = next;
  chosen[2u * row] = next;
  chosen[2u * row + 1u] = bitcast<vec4u>(load_z(row_start + next / 4u))[next % 4u];
  seen[row * params.words + next / 32u] |= 1u << (next % 32u);
}
