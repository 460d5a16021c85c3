/**
 * Lines between the `train` stage and the first of the ranks that train for it.
 *
 * The rank writes a message a line; any other line is text. The stage answers `flushed` when numbers are safe, and asks to `stop`. The end of its lines
 * means that the stage is no more.
 *
 * @module
 */

import { z } from "zod";
import type { TrainingJob } from "../train_model.ts";

const step = z.int().min(0);
/** JSON has no word for a number that is not finite. */
const nats = z.number().nullable().transform((value) => value ?? NaN);
const evaluation = { step, nats };

/** A training's result, without the paths that the stage knows by itself. */
const result = z.strictObject({
  step,
  tokens: z.number(),
  last: z.strictObject({ ...evaluation, bits_per_byte: z.number().nullable() }),
  best: z.strictObject(evaluation),
  skipped: z.int(),
  lastPath: z.string(),
  bestPath: z.string(),
});

const messageSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("provenance"), adapter: z.string(), runtime: z.string() }),
  z.strictObject({ kind: z.literal("rewind"), step }),
  z.strictObject({
    kind: z.enum(["write", "measure"]),
    step,
    values: z.record(z.string(), z.number().nullable()),
  }),
  z.strictObject({
    kind: z.literal("sample"),
    step,
    samples: z.array(z.strictObject({
      prompt: z.string(),
      text: z.string(),
      finish: z.enum(["endoftext", "max_tokens", "context", "not_finite"]),
    })),
  }),
  z.strictObject({ kind: z.literal("flush") }),
  z.strictObject({ kind: z.literal("progress"), step, remark: z.string() }),
  z.strictObject({ kind: z.enum(["info", "warn"]), message: z.string() }),
  z.strictObject({ kind: z.literal("done"), result }),
  z.strictObject({ kind: z.literal("stopped") }),
  z.strictObject({ kind: z.literal("sent"), rank: z.int(), messages: z.int(), bytes: z.number() }),
  z.strictObject({ kind: z.literal("failed"), rank: z.int(), message: z.string() }),
]);

/** A message of a rank. */
export type RankMessage = z.infer<typeof messageSchema>;

/** Lines of the stage. */
export type StageLine = "flushed" | "stop";

/** A line of a rank as a message; undefined for text. */
export function parseMessage(line: string): RankMessage | undefined {
  if (!line.startsWith('{"kind":')) return undefined;
  try {
    return messageSchema.safeParse(JSON.parse(line)).data;
  } catch {
    return undefined;
  }
}

/** The job of a rank: what the stage would do by itself, and how. */
export interface RankJob extends TrainingJob {
  readonly runtime: "deno" | "dawn";
  /** URLs of the modules that the node's key covers. */
  readonly modules: readonly string[];
}
