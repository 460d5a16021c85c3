/**
 * Activation functions and their derivatives.
 *
 * @module
 */

const GELU_SCALE = Math.sqrt(2 / Math.PI);
const GELU_CUBIC = 0.044715;

/** The tanh form: `0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))`. */
export function gelu(x: number): number {
  return 0.5 * x * (1 + Math.tanh(GELU_SCALE * (x + GELU_CUBIC * x ** 3)));
}

/** Derivative of {@linkcode gelu}. */
export function geluDerivative(x: number): number {
  const t = Math.tanh(GELU_SCALE * (x + GELU_CUBIC * x ** 3));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * GELU_SCALE * (1 + 3 * GELU_CUBIC * x * x);
}

/** `∫ exp(−t²) dt · 2/√π` from 0 to `x`, to the last digits of float64. */
export function erf(x: number): number {
  const magnitude = Math.abs(x);
  if (magnitude > 6) return Math.sign(x);
  const square = x * x;
  if (magnitude < 2.5) {
    // x · Σ (2x²)ⁿ / (1·3·5…(2n+1)), all terms of which are positive.
    let term = 1;
    let sum = 1;
    for (let n = 1; term > 1e-17 * sum; n++) sum += term *= 2 * square / (2 * n + 1);
    return 2 / Math.sqrt(Math.PI) * x * Math.exp(-square) * sum;
  }
  // The continued fraction of erfc, from its far end.
  let fraction = 0;
  for (let n = 60; n > 0; n--) fraction = n / 2 / (magnitude + fraction);
  return Math.sign(x) * (1 - Math.exp(-square) / Math.sqrt(Math.PI) / (magnitude + fraction));
}

/** The exact form: `x Φ(x)`, Φ the normal distribution. */
export function geluExact(x: number): number {
  return 0.5 * x * (1 + erf(x / Math.SQRT2));
}

/** Derivative of {@linkcode geluExact}: `Φ(x) + x φ(x)`. */
export function geluExactDerivative(x: number): number {
  return 0.5 * (1 + erf(x / Math.SQRT2)) + x * Math.exp(-0.5 * x * x) / Math.sqrt(2 * Math.PI);
}

function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x));
}

/** `x · sigmoid(x)`. */
export function silu(x: number): number {
  return x * sigmoid(x);
}

/** Derivative of {@linkcode silu}. */
export function siluDerivative(x: number): number {
  const s = sigmoid(x);
  return s * (1 + x * (1 - s));
}
