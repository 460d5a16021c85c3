/**
 * The kinds of feed-forward layers. A kind is loaded when a model names it, so that a node's key covers the kinds that it runs.
 *
 * @module
 */

/** By the name that `model.ffn.kind` gives. */
export const FFN = {
  dense: { module: import.meta.resolve("./dense/kind.ts"), load: () => import("./dense/kind.ts") },
  ethos: { module: import.meta.resolve("./ethos/kind.ts"), load: () => import("./ethos/kind.ts") },
  peer: { module: import.meta.resolve("./peer/kind.ts"), load: () => import("./peer/kind.ts") },
  switch: {
    module: import.meta.resolve("./switch/kind.ts"),
    load: () => import("./switch/kind.ts"),
  },
  topk_moe: {
    module: import.meta.resolve("./topk_moe/kind.ts"),
    load: () => import("./topk_moe/kind.ts"),
  },
} as const;
