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
