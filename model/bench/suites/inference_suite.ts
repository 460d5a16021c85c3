/**
 * Inference: how fast a prompt is read, and how fast a text goes on after it.
 *
 * @module
 */

import { Generator } from "../../inference/generator.ts";
import { InferenceModel } from "../../inference/model.ts";
import type { BenchCase, Measured, SuiteContext } from "./suite.ts";
import { zipfBatches } from "../measure/synthetic_tokens.ts";
import { timingOf } from "../measure/timing.ts";

/** Tokens of a prompt that are computed at once. */
const CHUNKS = [64, 512];

/** Prefill by length of the prompt and of its chunks, and decoding after prompts of these lengths, in both precisions. */
export function inferenceSuite(context: SuiteContext): BenchCase[] {
  const lengths = context.gpu.capabilities.software ? [24] : [512, 4096];
  return (["f32", "mixed"] as const).flatMap((precision) =>
    lengths.flatMap((prompt) => [
      ...CHUNKS.filter((chunk) => chunk <= prompt || chunk === CHUNKS[0]).map((
        chunk,
      ): BenchCase => ({
        id: `inference.prefill.${prompt}.${chunk}.${precision}`,
        suite: "inference",
        params: { pass: "prefill", prompt, chunk, precision },
        measure: () => measure(context, { precision, prompt, chunk, decode: false }),
      })),
      {
        id: `inference.decode.${prompt}.${precision}`,
        suite: "inference",
        params: { pass: "decode", prompt, precision },
        measure: () => measure(context, { precision, prompt, chunk: CHUNKS[0]!, decode: true }),
      },
    ])
  );
}

async function measure(
  { gpu, architecture, timing, seed }: SuiteContext,
  options: { precision: "f32" | "mixed"; prompt: number; chunk: number; decode: boolean },
): Promise<Measured> {
  const { precision, prompt, chunk, decode } = options;
  const { warmup, repeats, signal } = timing;
  /** Tokens of one sample of decoding: each is waited for, as the next depends on it. */
  const decoded = gpu.capabilities.software ? 2 : 16;
  using model = await InferenceModel.untrained(gpu, architecture, { seed, precision });
  const capacity = prompt + (decode ? decoded * (warmup + repeats) : 0);
  using generator = await Generator.create(model, { capacity, chunk });
  const { vocab_size: vocabulary } = architecture.config;
  const [batch] = zipfBatches({ vocabulary, tokens: prompt, count: 1, seed });
  const seconds: number[] = [];
  let logits = decode ? await generator.feed(batch!.tokens) : undefined;
  for (let i = 0; i < warmup + repeats; i++) {
    signal?.throwIfAborted();
    const start = performance.now();
    if (logits) {
      for (let n = 0; n < decoded; n++) logits = await generator.feed([argmax(logits)]);
    } else {
      generator.reset();
      await generator.feed(batch!.tokens);
    }
    if (i >= warmup) seconds.push((performance.now() - start) / 1000 / (decode ? decoded : 1));
  }
  return {
    timing: timingOf(seconds),
    tokens: decode ? 1 : prompt,
    peak_bytes: generator.bytes,
  };
}

function argmax(values: Float32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}
