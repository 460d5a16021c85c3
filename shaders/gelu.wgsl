// gelu(x) = x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³))) and its derivative.
// The argument of tanh is clamped: beyond ±10 it is ±1 in f32, and some drivers return NaN for tanh of large numbers.
fn gelu_tanh(x: vec4f) -> vec4f {
  return tanh(clamp(0.7978845608028654 * (x + 0.044715 * x * x * x), vec4f(-10.0), vec4f(10.0)));
}

fn gelu(x: vec4f) -> vec4f {
  return 0.5 * x * (1.0 + gelu_tanh(x));
}

fn gelu_derivative(x: vec4f) -> vec4f {
  let t = gelu_tanh(x);
  return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * 0.7978845608028654 * (1.0 + 0.134145 * x * x);
}
