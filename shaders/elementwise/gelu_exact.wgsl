// gelu(x) = x Φ(x), Φ(x) = (1 + erf(x/√2)) / 2, and its derivative Φ(x) + x φ(x).
// erf by formula 7.1.26 of Abramowitz and Stegun, whose error is at most 1.5e-7: for x ≥ 0, erf(x) = 1 − (a1 t + … + a5 t⁵) exp(−x²), t = 1 / (1 + p x).
// That subtrahend halved is Φ(−|x|), so small values keep their digits.
fn gelu_tail(x: vec4f) -> vec4f {
  let t = 1.0 / (1.0 + 0.23164189 * abs(x));
  let sum = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return 0.5 * sum * exp(-0.5 * x * x);
}

// Φ(x), from Φ(−|x|).
fn gelu_share(x: vec4f) -> vec4f {
  let tail = gelu_tail(x);
  return select(1.0 - tail, tail, x < vec4f());
}

fn gelu(x: vec4f) -> vec4f {
  return x * gelu_share(x);
}

fn gelu_derivative(x: vec4f) -> vec4f {
  return gelu_share(x) + x * 0.3989422804014327 * exp(-0.5 * x * x);
}
