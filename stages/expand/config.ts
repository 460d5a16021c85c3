/**
 * The sections `expansion` and `pruning`: into how many experts a model's MLPs are split, and how sparse those are. A file of its own, so that the
 * stage's code closure holds no other stage.
 *
 * @module
 */

import { z } from "zod";
import { EXPANSION, type Expansion, PRUNING, type Pruning } from "../../model/sparse/options.ts";

/** Experts of a site at most: a router compares each row with every one of them. */
const MOST_CLUSTERS = 4096;

/** `N:M`: N zeros among M neighbours. */
const PATTERN = /^(\d{1,5}):(\d{1,5})$/;

/** Schema of a number of clusters. */
export const clusters = z.int().min(1).max(MOST_CLUSTERS)
  .describe("experts of a site; 1 prunes without experts");

/** Schema of a sparsity. */
export const sparsity = z.union([
  z.number().min(0).lt(1),
  z.string().refine((text) => patternProblem(text) === undefined, {
    error: ({ input }) => patternProblem(String(input)) ?? "",
  }),
]).describe("part of the weights that is pruned, or N:M for N zeros among M neighbours");

/** A sparsity, validated. */
export type Sparsity = z.infer<typeof sparsity>;

/** Says why a text is no pattern. */
function patternProblem(text: string): string | undefined {
  const [, zeros, group] = PATTERN.exec(text) ?? [];
  if (zeros === undefined || group === undefined) {
    return `${
      JSON.stringify(text)
    } is no pattern; expected a number from 0 to below 1, or N:M such as 2:4`;
  }
  const [n, m] = [Number(zeros), Number(group)];
  if (n < 1 || m < 1) return `${text} has a zero; expected two positive whole numbers, such as 2:4`;
  if (n > m) return `${text} has more zeros than neighbours; expected N up to M, such as 2:4`;
  return undefined;
}

/** Schema of the section `expansion`. */
export const expansionSectionSchema = z.strictObject({
  clusters: clusters.default(EXPANSION.clusters),
  pca: z.boolean().default(true)
    .describe("whether rows are clustered by their principal components"),
  pca_factor: z.int().min(1).max(65536).default(EXPANSION.pca_factor)
    .describe("inputs for each component that is kept"),
  restarts: z.int().min(1).max(1000).default(EXPANSION.restarts)
    .describe("starts of k-means, of which the best is kept"),
  max_iterations: z.int().min(1).max(100_000).default(EXPANSION.max_iterations)
    .describe("updates of the centroids in one start at most"),
});

/** The section `expansion`, validated. */
export type ExpansionSection = z.infer<typeof expansionSectionSchema>;

/** Schema of the section `pruning`. */
export const pruningSectionSchema = z.strictObject({
  sparsity: sparsity.default(0.5),
  bits: z.int().min(2).max(8).optional().describe("of a quantised weight; 16 unless given"),
  symmetric: z.boolean().default(PRUNING.symmetric)
    .describe("whether the grid of quantised weights is symmetric around zero"),
  block: z.int().min(1).max(65536).default(PRUNING.block)
    .describe("columns that are pruned together"),
  damping: z.number().min(0).max(1e6).default(PRUNING.damping)
    .describe("addend of the Hessian's diagonal, over its mean"),
}).superRefine(({ bits, symmetric }, context) => {
  if (!symmetric || bits !== undefined) return;
  context.addIssue({
    code: "custom",
    path: ["symmetric"],
    message: "has no effect without bits; remove it or give bits",
    input: symmetric,
  });
});

/** The section `pruning`, validated. */
export type PruningSection = z.infer<typeof pruningSectionSchema>;

/** Schema of the section `neurons`. */
export const neuronsSectionSchema = z.strictObject({
  neurons: z.int().min(1).max(4096).default(64)
    .describe("neurons of a layer whose outputs are compared with a Gaussian"),
  rows: z.int().min(1).max(65536).default(4096).describe("calibration rows at most"),
  shown: z.int().min(0).max(64).default(2)
    .describe("neurons with histograms: so many of the least Gaussian, and of the most"),
});

/** The section `neurons`, validated. */
export type NeuronsSection = z.infer<typeof neuronsSectionSchema>;

/** The options of an expansion that a section asks for. */
export function expansionOf(
  { pca, pca_factor, restarts, max_iterations }: ExpansionSection,
  clusters: number,
): Expansion {
  return { clusters, pca_factor: pca ? pca_factor : 0, restarts, max_iterations };
}

/** The options of a pruning that a section asks for. */
export function pruningOf({ bits, ...section }: PruningSection, sparsity: Sparsity): Pruning {
  const { symmetric, block, damping } = section;
  const more = { symmetric, block, damping, ...(bits !== undefined && { bits }) };
  if (typeof sparsity === "number") return { sparsity, ...more };
  const [, zeros, group] = PATTERN.exec(sparsity)!;
  return { sparsity: 0, pattern: [Number(zeros), Number(group)], ...more };
}
