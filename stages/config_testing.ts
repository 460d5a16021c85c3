/**
 * What tests of the experiment's configuration share.
 *
 * @module
 */

import { z } from "zod";
import type { ExperimentParts } from "./config.ts";

/** Small schemas in the place of the data stages'. */
export const testParts: ExperimentParts = {
  data: z.discriminatedUnion("source", [
    z.strictObject({ source: z.literal("embedded") }),
    z.strictObject({ source: z.literal("c4"), fraction: z.number().gt(0).max(1).default(0.01) }),
    z.strictObject({ source: z.literal("files"), files: z.array(z.string()).min(1) }),
  ]),
  tokenizer: z.strictObject({
    vocabulary: z.enum(["compact", "cl100k_base"]),
    vocab_size: z.int().min(257).max(100277).optional(),
  }),
  denseEquivalent: (model) => ({ ...model, kind: "dense", d_ffn: 256 }),
};

/** A configuration that is valid with {@linkcode testParts}. */
export const MINIMAL = `name: test
data: { source: embedded }
tokenizer: { vocabulary: compact, vocab_size: 512 }
train: { sequence_length: 64, steps: 100, learning_rate: { warmup_steps: 10 } }
`;
