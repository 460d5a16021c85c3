/**
 * The figures of the paper and its repository, in one place, so that every comparison quotes the same one.
 *
 * Figures that the authors give only in their repository's README are marked so. Nothing here is used to compute a result.
 *
 * @module
 */

/** Reference shown wherever a figure of the paper is quoted. */
export const PAPER_REFERENCE =
  "Medford, McCormick, Callicoat: ETHOS: Efficient Transformers via Hypernetwork-Organized Sparsity, 2025";

/** Figures as stated. */
export const PAPER = {
  /** Table 1: stored, active and theoretical parameters. */
  stored: 750e6,
  active: 258e6,
  theoretical: 8.7e9,
  /** README: "~20× fewer FLOPs" than a dense model of the theoretical size. */
  flopsGain: 20,
  /** Section 5: one layer of PEER and of ETHOS. The paper says 536 MB and 33 MB; they are counts of parameters. */
  peerLayer: 536e6,
  latentLayer: 33e6,
  /** Section 7.1: memory against PEER. */
  memoryGain: 16,
  /** Section 5: attention, all layers. */
  attention: 800e6,
  /** Figure 4: L = a − b ln x. */
  fit: { a: 8.88, b: 0.418, r2: 0.9 },
  /** README: after 4 B tokens of C4. */
  perplexity: 34.85,
  tokens: 4e9,
  /** Batch 8 of sequences of 4096. */
  tokensPerStep: 8 * 4096,
  /** The vocabulary that it was trained with, on C4. */
  vocabulary: "cl100k_base",
  /** Training, tokens a second: the first figure, and the one after optimisation. */
  tokensPerSecond: { first: 14_308, later: 18_000 },
  device: "GH200",
  /** Reordered against naive execution. */
  executionGain: 8,
  executionMemoryGain: 4,
} as const;
