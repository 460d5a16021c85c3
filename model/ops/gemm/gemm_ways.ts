/**
 * The ways in which a GPU can make a product: which kernel, in tiles of what size, the sum in how many parts, and whether operands are
 * transposed first. The rule takes one of them; a tuning may take another.
 *
 * @module
 */

import type { Capabilities } from "../../gpu/capabilities.ts";
import type { OperandShape } from "./matrix.ts";
import {
  type GpuKernel,
  gpuKernel,
  gpuKernels,
  mostSplits,
  type ProductShape,
  roundsOf,
  splitsOf,
  turnPays,
} from "./gemm_kernels.ts";

/** A way of making a product. */
export interface ProductWay {
  /** `128x128`; `64x64/4`: the sum in four parts; `matrix:128x64`: on matrix units; `turned:128x128`: operands transposed first. */
  readonly name: string;
  readonly kernel: GpuKernel;
  /** Parts that the sum is cut into. 1: none. */
  readonly splits: number;
  /** Whether operands are transposed first, so that both are stored K-major and the kernel is one for `tn`. */
  readonly turned: boolean;
}

/** Ways of one product at most, so that measuring them stays short. */
export const MOST_WAYS = 12;
/** Rounds of tiles that keep a GPU busy without parts: cutting the sum of more has nothing to gain. */
const FULL_ROUNDS = 2;
/** Floating-point operations from which on it may be worth transposing, and columns and rows. */
const TURNED_FLOPS = 1e9;
const TURNED_WIDTH = 64;

/** The ways of making a product, the rule's first. All of them are right; which is fastest is for a measurement to say. */
export function productWays(capabilities: Capabilities, shape: ProductShape): ProductWay[] {
  const kernels = gpuKernels(capabilities, shape);
  const ways = [
    ruleWay(capabilities, shape),
    ...kernels.flatMap((kernel) =>
      splitCounts(kernel, shape).map((splits) => way(kernel, splits, false))
    ),
  ];
  if (mayTurn(kernels, shape)) {
    const turned = turnedShape(shape);
    for (const kernel of gpuKernels(capabilities, turned).slice(0, 2)) {
      ways.push(way(kernel, splitsOf(kernel, turned), true));
    }
  }
  const byName = new Map<string, ProductWay>();
  for (const each of ways) if (!byName.has(each.name)) byName.set(each.name, each);
  return [...byName.values()].slice(0, MOST_WAYS);
}

/** What is taken where nobody measured. */
export function ruleWay(capabilities: Capabilities, shape: ProductShape): ProductWay {
  const kernel = gpuKernel(capabilities, shape);
  if (!turnPays(kernel, shape)) return way(kernel, splitsOf(kernel, shape), false);
  const turned = turnedShape(shape);
  const inner = gpuKernel(capabilities, turned);
  return way(inner, splitsOf(inner, turned), true);
}

function way(kernel: GpuKernel, splits: number, turned: boolean): ProductWay {
  const parts = splits > 1 ? `/${splits}` : "";
  const before = `${turned ? "turned:" : ""}${kernel.units ? "matrix:" : ""}`;
  return { name: `${before}${kernel.tile_m}x${kernel.tile_n}${parts}`, kernel, splits, turned };
}

/** What the id of a product says of its operands beside their types: `a4`, `b4` for halves that can only be read by fours. */
export function readByFours(a: OperandShape, b: OperandShape): string[] {
  const fours = ({ dtype, aligned }: OperandShape) => dtype === "f16" && !aligned;
  return [...(fours(a) ? ["a4"] : []), ...(fours(b) ? ["b4"] : [])];
}

/** The product of transposed operands: `turn` aligns their rows. */
function turnedShape(shape: ProductShape): ProductShape {
  const { layout, a, b } = shape;
  return {
    ...shape,
    layout: "tn",
    a: { ...a, aligned: true },
    b: layout === "nt" ? { ...b, aligned: true } : b,
  };
}

/** Whether transposing first is among the ways: never on matrix units, which take every layout. */
function mayTurn(kernels: readonly GpuKernel[], shape: ProductShape): boolean {
  const { m, n, k, layout } = shape;
  return layout !== "tn" && !kernels.some(({ units }) => units) &&
    2 * m * n * k >= TURNED_FLOPS && n >= TURNED_WIDTH && (layout === "nn" || m >= TURNED_WIDTH);
}

/** The rule's number of parts, and others around it: none, about half and about twice as many. */
function splitCounts(kernel: GpuKernel, shape: ProductShape): number[] {
  const rule = splitsOf(kernel, shape);
  const most = Math.max(1, mostSplits(shape.k));
  const whole = roundsOf(kernel, shape, 1);
  if (rule === 1) return whole < FULL_ROUNDS && most > 1 ? [1, 2] : [1];
  /** Of the numbers around one that which leaves the fewest multiprocessors idle. */
  const near = (count: number) => {
    const [from, to] = [Math.ceil(0.75 * count), Math.min(most, Math.floor(1.25 * count))];
    let best = Math.min(most, Math.max(1, Math.round(count)));
    for (let splits = from; splits <= to; splits++) {
      if (roundsOf(kernel, shape, splits) < roundsOf(kernel, shape, best)) best = splits;
    }
    return best;
  };
  const none = whole <= 4 * roundsOf(kernel, shape, rule) ? [1] : [];
  return [...new Set([rule, near(rule / 2), near(2 * rule), ...none])];
}
