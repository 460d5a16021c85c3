/**
 * Parameters of a layer: names in files, shapes, initial values, which of them decay.
 *
 * @module
 */

/** Where a parameter's initial values come from. */
type Initialisation =
  | { readonly kind: "normal"; readonly std: number }
  /** Evenly within ±`bound`. */
  | { readonly kind: "uniform"; readonly bound: number }
  | { readonly kind: "ones" }
  | { readonly kind: "zeros" };

/** One trained tensor of a model. */
export interface ParameterSpec {
  /** Name in files: `layers.3.attn.w_dq`. */
  readonly name: string;
  /** Input × output for matrices. */
  readonly shape: readonly number[];
  /** The part of the model that it is counted with: `embedding`, `norm`, `attention`, or a part that its kind names. */
  readonly role: string;
  /** Where its values come from. */
  readonly init: Initialisation;
  /** Whether AdamW decays it: matrices, the embedding, sub-keys and latent codes, never norms and biases. */
  readonly decay: boolean;
  /**
   * True for a parameter whose exact gradient is zero, such as the router's bias under batch norm. AdamW would turn rounding
   * noise into full steps, so its gradient is held at zero.
   */
  readonly held: boolean;
}

/** A tensor that a model keeps but no gradient trains, such as batch norm's running mean. */
export interface StatisticSpec {
  /** Name in files: `layers.3.ffn.router.bn.mean`. */
  readonly name: string;
  /** One size: the features. */
  readonly shape: readonly number[];
  /** Where its values come from. */
  readonly init: Initialisation;
}

/** Standard deviation of every matrix that the specification does not single out. */
const BASE_STD = 0.02;

export const ones: Initialisation = { kind: "ones" };
export const zeros: Initialisation = { kind: "zeros" };

/** Number of elements of a tensor. */
export function size(spec: Pick<ParameterSpec, "shape">): number {
  return spec.shape.reduce((product, n) => product * n, 1);
}

/** A decaying matrix, normal with standard deviation 0.02 unless `std` is given. */
export function weight(
  name: string,
  shape: readonly number[],
  options: { role: string; std?: number },
): ParameterSpec {
  const { role, std = BASE_STD } = options;
  return { name, shape, role, init: { kind: "normal", std }, decay: true, held: false };
}

/** A decaying matrix, uniform within ±`bound`. */
export function uniformWeight(
  name: string,
  shape: readonly number[],
  options: { role: string; bound: number },
): ParameterSpec {
  const { role, bound } = options;
  return { name, shape, role, init: { kind: "uniform", bound }, decay: true, held: false };
}

/** A gain or a bias: one-dimensional, not decaying. */
export function vector(
  name: string,
  width: number,
  options: { role: string; init: Initialisation },
): ParameterSpec {
  return { name, shape: [width], ...options, decay: false, held: false };
}

/** Matrices that write into the residual stream start smaller, the more layers add to it. */
export function residualStd({ num_layers }: { num_layers: number }): number {
  return BASE_STD / Math.sqrt(2 * num_layers);
}
