/**
 * The kinds of attention. A kind is loaded when a model names it, so that a node's key covers the kinds that it runs.
 *
 * @module
 */

/** By the name that `model.attention.kind` gives. */
export const ATTENTION = {
  mha: { module: import.meta.resolve("./mha/kind.ts"), load: () => import("./mha/kind.ts") },
  mla: { module: import.meta.resolve("./mla/kind.ts"), load: () => import("./mla/kind.ts") },
} as const;
