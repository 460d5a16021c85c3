/**
 * AdamW with decoupled weight decay, and clipping by the global norm.
 *
 * @module
 */

/** Gradients or parameters by name. */
export type Named = ReadonlyMap<string, Float64Array>;

/** Constants of the optimiser. */
export interface AdamWOptions {
  /** Decay of the first moment. */
  readonly beta1: number;
  /** Decay of the second moment. */
  readonly beta2: number;
  /** Added to the root of the second moment. */
  readonly epsilon: number;
  /** Fraction of a decaying parameter that a rate of 1 would take away. */
  readonly weightDecay: number;
}

/** The specification's constants. */
const adamWDefaults: AdamWOptions = {
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  weightDecay: 0.01,
};

/** The norm over all gradients together. */
function globalNorm(gradients: Named): number {
  let sum = 0;
  for (const gradient of gradients.values()) {
    for (const value of gradient) sum += value * value;
  }
  return Math.sqrt(sum);
}

/** Gradients scaled by `min(1, limit / (norm + 1e-6))`, and the norm before. */
export function clipByGlobalNorm(
  gradients: Named,
  limit = 1,
): { gradients: Map<string, Float64Array>; norm: number } {
  const norm = globalNorm(gradients);
  const scale = Math.min(1, limit / (norm + 1e-6));
  const clipped = new Map(
    Array.from(gradients, ([name, gradient]) => [name, gradient.map((g) => g * scale)]),
  );
  return { gradients: clipped, norm };
}

/**
 * AdamW. Decay comes first, `p ← p (1 − lr · decay)`, then `p ← p − lr · m̂ / (√v̂ + ε)`.
 *
 * @example
 * ```ts
 * import { assert } from "@std/assert";
 * import { AdamW } from "./optimizer.ts";
 * const p = new Map([["w", Float64Array.of(1)]]);
 * new AdamW(new Set()).step(p, new Map([["w", Float64Array.of(3)]]), { learningRate: 0.1 });
 * assert(Math.abs(p.get("w")![0]! - 0.9) < 1e-8); // the first step is lr · sign(g)
 * ```
 */
export class AdamW {
  #decaying: ReadonlySet<string>;
  #options: AdamWOptions;
  #updates = 0;
  /** First moments by name. */
  readonly m: Map<string, Float64Array> = new Map();
  /** Second moments by name. */
  readonly v: Map<string, Float64Array> = new Map();

  /**
   * An optimiser before its first update.
   *
   * @param decaying Names of the parameters that decay.
   */
  constructor(decaying: ReadonlySet<string>, options: Partial<AdamWOptions> = {}) {
    this.#decaying = decaying;
    this.#options = { ...adamWDefaults, ...options };
  }

  /** One update of every parameter, in place. @throws {Error} If a parameter has no gradient. */
  step(parameters: Named, gradients: Named, options: { learningRate: number }): void {
    const { beta1, beta2, epsilon, weightDecay } = this.#options;
    const { learningRate } = options;
    this.#updates += 1;
    const correction1 = 1 - beta1 ** this.#updates;
    const correction2 = 1 - beta2 ** this.#updates;
    for (const [name, p] of parameters) {
      const g = gradients.get(name);
      if (g === undefined) throw new Error(`Parameter ${name} has no gradient`);
      const decay = this.#decaying.has(name) ? 1 - learningRate * weightDecay : 1;
      const m = moment(this.m, name, p.length);
      const v = moment(this.v, name, p.length);
      for (let i = 0; i < p.length; i++) {
        m[i] = beta1 * m[i]! + (1 - beta1) * g[i]!;
        v[i] = beta2 * v[i]! + (1 - beta2) * g[i]! ** 2;
        const step = (m[i]! / correction1) / (Math.sqrt(v[i]! / correction2) + epsilon);
        p[i] = p[i]! * decay - learningRate * step;
      }
    }
  }
}

/** A parameter's moment, zeros at first. */
function moment(moments: Map<string, Float64Array>, name: string, length: number): Float64Array {
  const known = moments.get(name) ?? new Float64Array(length);
  moments.set(name, known);
  return known;
}
