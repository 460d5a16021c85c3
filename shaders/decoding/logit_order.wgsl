// Logits as whole numbers in the same order. Put before the kernels that use it.
//
// A choice is (order, token): of two the one with the larger order comes first, of equals the one with the lower token. Orders compare where floats may be
// flushed or taken for finite. A logit that is not finite comes before all others, so that the first choice of a row tells it; no logit has the order 0.
const NO_CHOICE = vec2u(0u, 0xffffffffu);
const BROKEN = 0xffffffffu;

fn order_of(bits: u32) -> u32 {
  // −0 is 0.
  let b = select(bits, 0u, bits == 0x80000000u);
  let order = select(b | 0x80000000u, ~b, b >= 0x80000000u);
  return select(order, BROKEN, (bits & 0x7f800000u) == 0x7f800000u);
}

fn logit_of(order: u32) -> f32 {
  return bitcast<f32>(select(~order, order & 0x7fffffffu, order >= 0x80000000u));
}

fn comes_before(a: vec2u, b: vec2u) -> bool { return a.x > b.x || (a.x == b.x && a.y < b.y); }
