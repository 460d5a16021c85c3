/**
 * Ablations that cannot be.
 *
 * @module
 */

import { type Malformed, withLines } from "./malformed_testing.ts";

/** Ablations that cannot be. */
export const MALFORMED_ABLATIONS: readonly Malformed[] = [
  {
    what: "a value that the model refuses",
    text: withLines(
      "ablations:",
      "  - name: d_latent",
      "    path: model.ffn.d_latent",
      "    values: [64, 66]",
    ),
    says: [
      "bad.yaml:8: ablations.0.values.1: 66 gives model.ffn.d_latent: 66 is not a multiple of 4",
    ],
  },
  {
    what: "a path that names no key",
    text: withLines(
      "ablations:",
      "  - name: d_latent",
      "    path: model.ffn.d_latnt",
      "    values: [64, 68]",
    ),
    says: [
      "bad.yaml:7: ablations.0.path: 64 gives model.ffn.d_latnt: unknown key; did you mean d_latent?",
    ],
  },
  {
    what: "a path into another section",
    text: withLines("ablations: [{ name: x, path: tokenizer.vocab_size, values: [300] }]"),
    says: ["ablations.0.path", "a factor changes keys of model or train"],
  },
  {
    what: "a factor without values",
    text: withLines("ablations: [{ name: x, path: model.ffn.d_latent }]"),
    says: ["ablations.0.values: missing; expected a list of values for model.ffn.d_latent"],
  },
  {
    what: "a seed that the base lacks",
    text: withLines("ablations: [{ name: x, path: model.ffn.d_latent, values: [64], seeds: [9] }]"),
    says: ["ablations.0.seeds: the base has no run with seed 9", "1, 2, 3"],
  },
  {
    what: "a seed of a variant that the base lacks",
    text: withLines(
      "ablations:",
      "  - { name: x, variants: [{ value: y, set: { model.ffn.d_latent: 64 }, seeds: [1, 9] }] }",
    ),
    says: ["ablations.0.variants.0.seeds: the base has no run with seed 9", "1, 2, 3"],
  },
  {
    what: "seeds of a variant in a grid",
    text: withLines(
      "combine: grid",
      "ablations:",
      "  - { name: x, variants: [{ value: y, set: { model.ffn.d_latent: 64 }, seeds: [1] }] }",
    ),
    says: ["ablations.0.variants.0.seeds: a grid's cells belong to all factors"],
  },
  {
    what: "two factors of one name",
    text: withLines(
      "ablations:",
      "  - { name: x, path: model.ffn.d_latent, values: [64] }",
      "  - { name: x, path: model.ffn.top_k, values: [4] }",
    ),
    says: ["bad.yaml:7: ablations.1.name: two factors are named x"],
  },
  {
    what: "a combination that is impossible",
    text: withLines(
      "combine: grid",
      "model: { ffn: { kind: ethos, num_experts: 1024 } }",
      "ablations:",
      "  - { name: n, path: model.ffn.num_experts, values: [256, 1024] }",
      "  - { name: k, path: model.ffn.top_k, values: [16, 32] }",
    ),
    says: ["ablations: n=256,k=32 gives model.ffn.top_k: 32 is more than the 16 sub-keys"],
  },
];
