/**
 * Options of Sparse Expansion for a linear layer: how it is pruned, and into how many experts a site is split.
 *
 * @module
 */

/**
 * How weights to prune are chosen, and whether the others make up for them.
 *
 * - `sparsegpt`: by the Hessian of a layer's inputs, and the kept weights make up for the pruned ones.
 * - `magnitude`: the smallest weights of each block, or of each group of a pattern; no kept weight changes, and no row is looked at. That is SparseGPT whose Hessian is the identity, so
 *   each block of columns keeps as many weights as SparseGPT's, and criterion and compensation are all that differs.
 */
export type Method = "sparsegpt" | "magnitude";

/** How one matrix is pruned and quantised. */
export interface Pruning {
  /** `sparsegpt` if undefined. */
  readonly method?: Method | undefined;
  /** Part of each block of columns that becomes zero, from 0 to below 1. Not with a pattern. */
  readonly sparsity: number;
  /** `[N, M]`: N zeros in every M neighbouring inputs of a row. */
  readonly pattern?: readonly [number, number] | undefined;
  /** Bits of a quantised weight, 2 to 8; undefined leaves weights as they are. */
  readonly bits?: number | undefined;
  /** Whether the grid of quantised weights is symmetric around zero. */
  readonly symmetric: boolean;
  /** Columns that are pruned together, before the columns after them follow. */
  readonly block: number;
  /** Addend of the Hessian's diagonal, over the mean of its diagonal. */
  readonly damping: number;
}

/**
 * Where the centroids of a site's clusters come from.
 *
 * - `kmeans`: as published.
 * - `rows`: different rows, each as likely as any other, and no update: clusters that say where rows are, roughly.
 * - `random`: random directions of equal length, among components scaled to equal variance: the sectors around them know how wide the rows spread, and nothing about where they lie.
 *
 * The last two are controls. A router is linear in its input, so no choice of centroids is without any meaning; a hash of the row would be, but two adapters, whose last bits differ, would
 * route by it differently. Random directions come closest among clusters that any router can hold.
 */
export type Centroids = "kmeans" | "rows" | "random";

/** How a site is split into experts. */
export interface Expansion {
  /** `kmeans` if undefined. */
  readonly centroids?: Centroids | undefined;
  /** Experts of a site, which are clusters of its inputs. */
  readonly clusters: number;
  /** PCA keeps a component for so many inputs; 0 clusters the inputs as they are. */
  readonly pca_factor: number;
  /** Starts of k-means, of which the best is kept. */
  readonly restarts: number;
  /** Updates of the centroids in one start at most. */
  readonly max_iterations: number;
}

/** The published pruning, without any sparsity. */
export const PRUNING: Pruning = { sparsity: 0, symmetric: false, block: 128, damping: 0.01 };

/** The published expansion. */
export const EXPANSION: Expansion = {
  clusters: 16,
  pca_factor: 32,
  restarts: 10,
  max_iterations: 300,
};

/**
 * Weights that are pruned of so many: `⌊count · sparsity⌋`, where a product that should be whole is not rounded down.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { prunedOf } from "./options.ts";
 *
 * assertEquals(prunedOf(100, 0.29), 29);
 * ```
 */
export function prunedOf(count: number, sparsity: number): number {
  return Math.floor(count * sparsity + 1e-9);
}

/** One expert that keeps as many weights as all experts of an expansion together. */
export interface Matched {
  /** With one cluster. */
  readonly expansion: Expansion;
  /** With a sparsity of `1 − min(1, K · (1 − sparsity))`, or with a pattern of as many kept weights a group, no more than all of them. */
  readonly pruning: Pruning;
  /** Whether no weight is pruned or quantised, so that the dense layer itself is what the experts' storage pays for. */
  readonly dense: boolean;
}

/**
 * The control of an expansion that has its storage, and not its clusters.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { EXPANSION, matchAll, PRUNING } from "./options.ts";
 *
 * const four = { ...EXPANSION, clusters: 4 };
 * const { pruning, dense } = matchAll({ expansion: four, pruning: { ...PRUNING, sparsity: 0.9 } });
 * assertEquals(pruning.sparsity, 0.6);
 * assertEquals(dense, false);
 * assertEquals(matchAll({ expansion: four, pruning: { ...PRUNING, sparsity: 0.5 } }).dense, true);
 * ```
 */
export function matchAll(
  { expansion, pruning }: { readonly expansion: Expansion; readonly pruning: Pruning },
): Matched {
  const { clusters } = expansion;
  const one: Expansion = { ...expansion, clusters: 1, centroids: "kmeans" };
  let own: Pruning;
  if (pruning.pattern) {
    const [zeros, group] = pruning.pattern;
    const left = group - Math.min(group, clusters * (group - zeros));
    own = { ...pruning, pattern: left === 0 ? undefined : [left, group] };
  } else {
    const kept = clusters * (1 - pruning.sparsity);
    // Ten experts that keep a tenth each keep all, whatever float64 says; and 1 − 4 · 0.1 is the 0.6 that another cell may have, so that one node expands both.
    own = { ...pruning, sparsity: kept > 1 - 1e-9 ? 0 : Number((1 - kept).toFixed(12)) };
  }
  const whole = own.pattern === undefined && own.sparsity === 0;
  return { expansion: one, pruning: own, dense: whole && own.bits === undefined };
}

/** Components that PCA keeps of `width` inputs: at least one. */
export function componentsOf(width: number, factor: number): number {
  return Math.max(1, Math.floor(width / factor));
}

/** Lowest and highest level of a quantised weight. */
export function levelsOf({ bits, symmetric }: { bits: number; symmetric: boolean }): {
  readonly lowest: number;
  readonly highest: number;
} {
  if (!symmetric) return { lowest: 0, highest: 2 ** bits - 1 };
  const highest = 2 ** (bits - 1) - 1;
  return { lowest: -highest, highest };
}

/**
 * Refuses a pruning that no matrix of so many inputs can have.
 *
 * @param name What the matrix is called in messages.
 * @throws {RangeError} Which option is wrong, its value, and what was expected.
 */
export function checkPruning(pruning: Pruning, name: string, inputs: number): void {
  const { sparsity, pattern, bits, block, damping } = pruning;
  const refuse = (what: string) => {
    throw new RangeError(`${name}: ${what}`);
  };
  if (!(sparsity >= 0 && sparsity < 1)) {
    refuse(`sparsity is ${sparsity}, expected a number from 0 to below 1`);
  }
  if (!Number.isInteger(block) || block < 1) {
    refuse(`block is ${block}, expected a positive whole number`);
  }
  if (!(damping >= 0 && damping < Infinity)) {
    refuse(`damping is ${damping}, expected a number from 0`);
  }
  if (bits !== undefined && !(Number.isInteger(bits) && bits >= 2 && bits <= 8)) {
    refuse(`bits is ${bits}, expected a whole number from 2 to 8`);
  }
  if (pattern === undefined) return;
  const [zeros, group] = pattern;
  const shown = `pattern is ${zeros}:${group}`;
  if (sparsity > 0) refuse(`${shown} and sparsity is ${sparsity}, expected one of them`);
  if (![zeros, group].every((n) => Number.isInteger(n) && n >= 1)) {
    refuse(`${shown}, expected two positive whole numbers`);
  }
  if (zeros > group) refuse(`${shown}, expected no more zeros than neighbours`);
  if (inputs % group !== 0) {
    refuse(`${shown}, but ${inputs} inputs do not divide into groups of ${group}`);
  }
  if (block % group !== 0) {
    refuse(`${shown}, but blocks of ${block} columns do not divide into groups of ${group}`);
  }
}

/**
 * Refuses a pruning whose experts would not differ from each other.
 *
 * @param name What is pruned, in messages.
 * @throws {RangeError} If weights are chosen by their magnitude alone, for several clusters.
 */
export function checkMethod({ method }: Pruning, name: string, clusters: number): void {
  if (method !== "magnitude" || clusters === 1) return;
  throw new RangeError(
    `${name}: method is magnitude and clusters is ${clusters}, expected 1: all experts would be the same`,
  );
}

/**
 * Refuses an expansion that no site of so many rows and inputs can have.
 *
 * @param name What the site is called in messages.
 * @throws {RangeError} Which option is wrong, its value, and what was expected.
 */
export function checkExpansion(
  expansion: Expansion,
  name: string,
  { rows, width }: { rows: number; width: number },
): void {
  const { clusters, pca_factor, restarts, max_iterations, centroids } = expansion;
  for (const [key, value] of Object.entries({ clusters, restarts, max_iterations })) {
    if (!Number.isInteger(value) || value < 1) {
      throw new RangeError(`${name}: ${key} is ${value}, expected a positive whole number`);
    }
  }
  if (clusters > rows) {
    throw new RangeError(`${name}: clusters is ${clusters}, expected at most its ${rows} rows`);
  }
  if (!Number.isInteger(pca_factor) || pca_factor < 0) {
    throw new RangeError(`${name}: pca_factor is ${pca_factor}, expected a whole number from 0`);
  }
  if (pca_factor === 0) {
    if (centroids !== "random") return;
    throw new RangeError(
      `${name}: centroids is random and pca_factor is 0, expected components to draw directions of`,
    );
  }
  const components = componentsOf(width, pca_factor);
  if (components > rows - 1) {
    throw new RangeError(
      `${name}: pca_factor ${pca_factor} keeps ${components} components of ${width} inputs, expected at most ${
        rows - 1
      }, one less than its rows`,
    );
  }
}
