/**
 * Helpers that tests of the experiment's configuration share.
 *
 * @module
 */

import { z } from "zod";
import { defineStage, type JsonValue, type Stage } from "../../pipeline/stage.ts";
import { ablate } from "../ablate/ablate.ts";
import type { ExperimentParts } from "./config.ts";
import type { ExperimentStages } from "./experiment.ts";

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
  vocabularySize: () => 512,
};

/** A configuration that is valid with {@linkcode testParts}. */
export const MINIMAL = `name: test
data: { source: embedded }
tokenizer: { vocabulary: compact, vocab_size: 512 }
train: { sequence_length: 64, steps: 100, learning_rate: { warmup_steps: 10 } }
`;

/** A stage that takes any parameters and publishes a folder with one file. */
export function testStage(name: string): Stage<JsonValue> {
  return defineStage<JsonValue>({
    name,
    description: `Stands for ${name}`,
    module: import.meta.url,
    params: z.json(),
    outputs: { [name]: "directory" },
    run: ({ output }) => Deno.writeTextFile(`${output(name)}/file.txt`, name),
  });
}

/** Stages that do nothing, in the places of the experiment's. */
export const TEST_STAGES: ExperimentStages = {
  download: testStage("download"),
  tokenize: testStage("tokenize"),
  train: testStage("train"),
  evaluate: testStage("evaluate"),
  benchmark: testStage("benchmark"),
  report: testStage("report"),
  ablate,
};
