// gelu(x) = x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³))) and its derivative.
// tanh(y) is 1 − 2 / (exp(2y) + 1), two instructions of a GPU's special units where the built-in may be a routine of many; 2y is clamped, for beyond
// ±20 the tanh is ±1 in f32.
fn gelu_tanh(x: vec4f) -> vec4f {
  return 1.0 - 2.0 / (1.0 + exp(clamp(1.5957691216057308 * (x + 0.044715 * x * x * x), vec4f(-20.0), vec4f(20.0))));
}

fn gelu(x: vec4f) -> vec4f {
  return 0.5 * x * (1.0 + gelu_tanh(x));
}

fn gelu_derivative(x: vec4f) -> vec4f {
  let t = gelu_tanh(x);
  return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * 0.7978845608028654 * (1.0 + 0.134145 * x * x);
}
