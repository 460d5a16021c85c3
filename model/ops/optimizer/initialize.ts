/**
 * Initial weights: near-normal and uniform numbers from integer arithmetic, the same bits on the host and on every adapter.
 *
 * @module
 */

import source from "../../../shaders/optimizer/initialize.wgsl" with { type: "text" };
import { f32, grid, write } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";

/** Standard deviation of a sum of sixteen uniform integers of 16 bits: `√(16 · (2³² − 1) / 12)`. */
const SUM_DEVIATION = Math.sqrt(16 * (2 ** 32 - 1) / 12);

/** Odd whole numbers within ± this are the uniform ones: 24 bits, which f32 holds exactly. */
const UNIFORM_RANGE = 2 ** 24;

/** Number of a parameter's stream of random numbers: a hash (FNV-1a) of its name, so that it depends on nothing else. */
export function stream(name: string): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(name)) {
    hash = Math.imul(hash ^ byte, 0x01000193);
  }
  return hash >>> 0;
}

/** Four hashed words of four words (PCG-4D, Jarzynski and Olano 2020). */
function pcg4d(a: number, b: number, c: number, d: number): [number, number, number, number] {
  const lcg = (n: number) => (Math.imul(n, 1664525) + 1013904223) >>> 0;
  let [x, y, z, w] = [lcg(a), lcg(b), lcg(c), lcg(d)];
  const mix = () => {
    x = (x + Math.imul(y, w)) >>> 0;
    y = (y + Math.imul(z, x)) >>> 0;
    z = (z + Math.imul(x, y)) >>> 0;
    w = (w + Math.imul(y, z)) >>> 0;
  };
  mix();
  [x, y, z, w] = [x ^ (x >>> 16), y ^ (y >>> 16), z ^ (z >>> 16), w ^ (w >>> 16)]
    .map((n) => n >>> 0) as [number, number, number, number];
  mix();
  return [x, y, z, w];
}

/**
 * The numbers that {@linkcode initializeNormal} writes, made on the host.
 *
 * @example
 * ```ts
 * import { hostNormal } from "./initialize.ts";
 * const codes = hostNormal("layers.1.ffn.z", { seed: 1, count: 8, deviation: 1 });
 * console.assert(codes.length === 8);
 * ```
 */
export function hostNormal(
  name: string,
  options: { seed: number; count: number; deviation: number },
): Float32Array {
  const id = stream(name);
  const factor = Math.fround(options.deviation / SUM_DEVIATION);
  return Float32Array.from({ length: options.count }, (_, element) => {
    let sum = -524280;
    for (const half of [0, 1]) {
      for (const word of pcg4d(element, id, options.seed >>> 0, half)) {
        sum += (word & 0xffff) + (word >>> 16);
      }
    }
    return Math.fround(sum * factor);
  });
}

/** The numbers that {@linkcode initializeUniform} writes, made on the host. */
export function hostUniform(
  name: string,
  options: { seed: number; count: number; bound: number },
): Float32Array {
  const id = stream(name);
  const factor = Math.fround(options.bound / UNIFORM_RANGE);
  return Float32Array.from({ length: options.count }, (_, element) => {
    const [word] = pcg4d(element, id, options.seed >>> 0, 0);
    return Math.fround((2 * (word >>> 8) + 1 - UNIFORM_RANGE) * factor);
  });
}

/** Records the initial values of a parameter's parts: normal with mean 0 and the given standard deviation. */
export function initializeNormal(
  plan: Plan,
  name: string,
  parts: readonly Tensor[],
  options: { seed: number; deviation: number },
): void {
  const { seed, deviation } = options;
  initialize(plan, name, parts, { seed, factor: deviation / SUM_DEVIATION, uniform: false });
}

/** Records the initial values of a parameter's parts: uniform in (−bound, bound). */
export function initializeUniform(
  plan: Plan,
  name: string,
  parts: readonly Tensor[],
  options: { seed: number; bound: number },
): void {
  const { seed, bound } = options;
  initialize(plan, name, parts, { seed, factor: bound / UNIFORM_RANGE, uniform: true });
}

function initialize(
  plan: Plan,
  name: string,
  parts: readonly Tensor[],
  options: { seed: number; factor: number; uniform: boolean },
): void {
  let first = 0;
  for (const part of parts) {
    plan.dispatch({
      label: name,
      name: "initialize",
      source,
      constants: { UNIFORM: options.uniform },
      params: {
        count: part.size,
        first,
        stream: stream(name),
        seed: options.seed >>> 0,
        factor: f32(options.factor),
      },
      bindings: { value: write(part) },
      workgroups: grid(Math.ceil(part.size / 256)),
    });
    first += part.size;
  }
}
